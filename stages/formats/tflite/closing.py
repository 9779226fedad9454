"""Compute a file's outputs before a closing softmax or sigmoid, which would hide how much two files differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import UnsupportedError
from stages.formats.format import Arrays
from stages.formats.session import dequantized, quantized
from stages.formats.tflite.ranges import Ranges
from stages.formats.tflite.session import SIGNATURE
from stages.formats.tflite.tensors import keeping_tensors
from stages.samples.batches import batches_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

CASTS = frozenset({"DEQUANTIZE", "QUANTIZE"})
SQUASHING = frozenset({"LOGISTIC", "LOG_SOFTMAX", "SOFTMAX"})


def outputs_before_closing(data: bytes, arrays: Arrays, picked: Sequence[int]) -> list[NDArray[Any]]:
    """Return float arrays (N, …) for the `picked` samples, one for each output in the order of their names.

    UnsupportedError if LiteRT refuses the file.
    """
    import numpy as np

    tensors = _before_closing(Ranges(data))
    try:
        interpreter = keeping_tensors(data)
        runner = interpreter.get_signature_runner(SIGNATURE)
        details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
        inputs = runner.get_input_details()
        size = int(next(iter(inputs.values()))["shape"][0])
        parts: list[list[NDArray[Any]]] = [[] for _ in tensors]
        for places in batches_of(len(picked), size):
            batch = [picked[place] for place in places]
            interpreter.reset_all_variables()
            runner(**{name: quantized(arrays[name][batch], detail) for name, detail in inputs.items()})
            for part, tensor in zip(parts, tensors, strict=True):
                # A copy: in float32 it is a view of the interpreter's memory.
                part.append(np.array(dequantized(interpreter.get_tensor(tensor), details[tensor])))
    except (ValueError, RuntimeError) as error:
        raise UnsupportedError(f"LiteRT can't run the file: {error}") from error
    return [np.concatenate(part) for part in parts]


def _before_closing(file: Ranges) -> list[int]:
    """Return the tensor of each output, or the one that its softmax or sigmoid reads."""
    makers = {tensor: operator for operator in file.operators() for tensor in operator.outputs}
    found = []
    for _, given in sorted(file.outputs.items()):
        tensor = given
        while tensor in makers and makers[tensor].kind in CASTS:
            tensor = makers[tensor].inputs[0]
        squashed = tensor in makers and makers[tensor].kind in SQUASHING
        found.append(makers[tensor].inputs[0] if squashed else tensor)
    return found
