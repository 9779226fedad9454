"""Measure ranges again where TensorFlow's calibration recorded those of something else.

While TensorFlow 2.21 calibrates, an operator may write what it computes over one of its inputs (ADD, MUL, SUB and
SOFTMAX were seen to), and the range that is recorded for the input takes in that result
(https://github.com/tensorflow/tensorflow/issues/127842): up to 80 times too wide behind a gate or a batch normalization
that stands alone. Here the calibrated float32 file runs once more on the same samples with every tensor kept.
"""

from __future__ import annotations

import numpy as np

from stages.formats.format import Arrays
from stages.formats.tflite.ranges import Ranges
from stages.formats.tflite.session import SIGNATURE
from stages.formats.tflite.tensors import keeping_tensors
from stages.samples.batches import batches_of

# Operators that write elsewhere: what only these read has the range that was recorded.
HARMLESS = frozenset(
    {
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "MAX_POOL_2D",
        "MEAN",
        "PAD",
        "TRANSPOSE_CONV",
    }
)
WITH_STATE = frozenset({"UNIDIRECTIONAL_SEQUENCE_LSTM"})  # its output shares its scale with its state's, left as it is


def put_true_ranges(ranges: Ranges, arrays: Arrays) -> None:
    """Change the ranges that an operator may have spoiled to those on `arrays`, the samples by input name."""
    operators = [*ranges.operators()]
    makers = [operator for operator in operators if operator.kind not in WITH_STATE]
    made = {tensor for operator in makers for tensor in operator.outputs if ranges[tensor] is not None}
    read = {tensor for operator in operators if operator.kind not in HARMLESS for tensor in operator.inputs}
    for tensor, limits in _measured(ranges.data, sorted(made & read), arrays).items():
        ranges[tensor] = limits


def _measured(data: bytes, tensors: list[int], arrays: Arrays) -> dict[int, tuple[float, float]]:
    """Return the smallest and the largest value of each of `tensors` of a float32 file on all samples."""
    if not tensors:
        return {}
    interpreter = keeping_tensors(data)
    runner = interpreter.get_signature_runner(SIGNATURE)
    details = runner.get_input_details()
    size = int(next(iter(details.values()))["shape"][0])
    views = [interpreter.tensor(tensor) for tensor in tensors]
    lows, highs = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    for picked in batches_of(len(next(iter(arrays.values()))), size):
        interpreter.reset_all_variables()
        runner(**{name: arrays[name][picked] for name in details})
        lows = np.minimum(lows, [view().min() for view in views])
        highs = np.maximum(highs, [view().max() for view in views])
    return {tensor: (float(low), float(high)) for tensor, low, high in zip(tensors, lows, highs, strict=True)}
