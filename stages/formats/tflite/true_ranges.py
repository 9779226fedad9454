"""Measure ranges again where TensorFlow's calibration recorded those of something else.

While TensorFlow 2.21 calibrates, an operator may write what it computes over one of its inputs (ADD, MUL, SUB and
SOFTMAX were seen to), and the range that is recorded for the input takes in that result
(https://github.com/tensorflow/tensorflow/issues/127842): up to 80 times too wide behind a gate or a batch normalization
that stands alone. Here the calibrated float32 file runs once more on the same samples with every tensor kept. That run
also counts values, for ranges that are not from the smallest to the largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.formats.calibration.histograms import Histogram
from stages.formats.format import Arrays
from stages.formats.session import quantized
from stages.formats.tflite.ranges import Ranges
from stages.formats.tflite.session import SIGNATURE
from stages.formats.tflite.tensors import keeping_tensors
from stages.samples.batches import batches_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    for tensor, limits in measured_ranges(ranges.data, spoiled_tensors(ranges), arrays).items():
        ranges[tensor] = limits


def made_tensors(ranges: Ranges) -> list[int]:
    """Return the tensors that operators compute and whose ranges were recorded, without those that share a state's."""
    makers = (operator for operator in ranges.operators() if operator.kind not in WITH_STATE)
    return sorted({tensor for operator in makers for tensor in operator.outputs if ranges[tensor] is not None})


def spoiled_tensors(ranges: Ranges) -> list[int]:
    """Return those of `made_tensors` that an operator reads which may write over its inputs."""
    readers = (operator for operator in ranges.operators() if operator.kind not in HARMLESS)
    read = {tensor for operator in readers for tensor in operator.inputs}
    return [tensor for tensor in made_tensors(ranges) if tensor in read]


def histograms(data: bytes, tensors: Sequence[int], arrays: Arrays, picked: Sequence[int]) -> dict[int, Histogram]:
    """Return the values of each of `tensors` of a float32 file on the `picked` samples."""
    found = {tensor: Histogram() for tensor in tensors}
    for values, share in _runs(data, tensors, arrays, picked):
        for histogram, view in zip(found.values(), values, strict=True):
            histogram.add(view, share)
    return found


def measured_ranges(data: bytes, tensors: list[int], arrays: Arrays) -> dict[int, tuple[float, float]]:
    """Return the smallest and the largest value of each of `tensors`, which are float32, on all samples."""
    if not tensors:
        return {}
    lows, highs = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    for values, _ in _runs(data, tensors, arrays, range(len(next(iter(arrays.values()))))):
        lows = np.minimum(lows, [view.min() for view in values])
        highs = np.maximum(highs, [view.max() for view in values])
    return {tensor: (float(low), float(high)) for tensor, low, high in zip(tensors, lows, highs, strict=True)}


def _runs(
    data: bytes, tensors: Sequence[int], arrays: Arrays, picked: Sequence[int]
) -> Iterator[tuple[list[NDArray[Any]], float]]:
    """Yield views of `tensors` for each batch of samples, and the share of it that is not a repeated sample."""
    interpreter = keeping_tensors(data)
    runner = interpreter.get_signature_runner(SIGNATURE)
    details = runner.get_input_details()
    size = int(next(iter(details.values()))["shape"][0])
    views = [interpreter.tensor(tensor) for tensor in tensors]
    for places in batches_of(len(picked), size):
        batch = [picked[place] for place in places]
        interpreter.reset_all_variables()
        runner(**{name: quantized(arrays[name][batch], detail) for name, detail in details.items()})
        yield [view() for view in views], len(set(places)) / size
