"""List known differences between TensorFlow Lite for Microcontrollers and LiteRT, and how large they may be.

It reports most of what it can't do: hybrid kernels, half-precision weights. One thing it does not report: its
DEQUANTIZE takes one scale for a whole tensor, the first, so that weights with a scale per channel silently come out
wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.records.schemes import Quantization

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import SubGraph, Tensor
    from numpy.typing import NDArray

FLOAT, INTEGERS = 1e-3, 0.1  # reference kernels round as specified; others may be off by a step of the last layers'
LEAST_STEPS = 20  # minimum scale of quantized outputs that stay near zero on one sample
KNOWN: Mapping[str, str] = {
    "dynamic": "it has no hybrid kernels (8-bit weights, float activations)",
    "int4_dynamic": "it has no hybrid kernels (4-bit weights, float activations)",
    "int4_weight_only": "its DEQUANTIZE takes no 4-bit weights",
    "float16": "it has no kernels for half-precision weights",
}


def refused_in_micro(how: Quantization) -> str | None:
    """Return why such an export can't run, or computes wrong results, or None."""
    if how.scheme == "weight_only" and how.granularity != "per_tensor":
        return "its DEQUANTIZE takes one scale a tensor, and these weights have one a channel: it computes them wrong"
    return KNOWN.get(how.scheme)


def wrong_in_micro(data: bytes) -> str | None:
    """Return what in a TFLite file it is known to compute wrong, or None."""
    for kind, inputs, _ in _operators(data):
        if kind == "DEQUANTIZE" and any(_scales(tensor) > 1 for tensor in inputs):
            name = inputs[0].Name().decode(errors="replace")
            return f"its DEQUANTIZE takes one scale a tensor, and {name!r} has {_scales(inputs[0])}"
    return None


def allowed_difference(data: bytes) -> float:
    """Return how far its outputs may be from LiteRT's, relative to the largest: by the type it computes in."""
    quantizing = ("DEQUANTIZE", "QUANTIZE")
    outputs = (tensor for kind, _, made in _operators(data) if kind not in quantizing for tensor in made)
    return INTEGERS if any(_scales(tensor) for tensor in outputs) else FLOAT


def micro_difference(data: bytes, expected: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    """Return the largest difference of outputs as stored, in the file's order, relative to the largest expected."""
    import numpy as np

    differences = []
    for (scale, zero_point), a, b in zip(_output_steps(data), expected, found, strict=True):
        wanted, got = (np.asarray(values, np.float64) - zero_point for values in (a, b))
        largest = max(float(np.abs(wanted).max()), LEAST_STEPS if scale else 1e-30)
        differences.append(float(np.abs(got - wanted).max()) / largest)
    return float(np.max(differences))  # NaN stays NaN


def _output_steps(data: bytes) -> list[tuple[float, int]]:
    """Return scale and zero point of each output, in the file's order; 0 and 0 for plain numbers."""
    graph = _graph(data)
    steps = []
    for index in graph.OutputsAsNumpy():
        quantization = graph.Tensors(int(index)).Quantization()
        quantized = quantization is not None and quantization.ScaleLength()
        steps.append((float(quantization.Scale(0)), int(quantization.ZeroPoint(0))) if quantized else (0.0, 0))
    return steps


def _graph(data: bytes) -> SubGraph:
    from ai_edge_litert import schema_py_generated as schema

    return schema.Model.GetRootAs(data, 0).Subgraphs(0)


def _operators(data: bytes) -> Iterator[tuple[str, list[Tensor], list[Tensor]]]:
    """Yield the kind of each operator, and the tensors that it reads and makes."""
    from stages.formats.tflite.tensors import operator_kinds

    graph = _graph(data)
    for index, kind in enumerate(operator_kinds(data)[0]):
        operator = graph.Operators(index)
        inputs = [graph.Tensors(operator.Inputs(i)) for i in range(operator.InputsLength()) if operator.Inputs(i) >= 0]
        yield kind, inputs, [graph.Tensors(operator.Outputs(i)) for i in range(operator.OutputsLength())]


def _scales(tensor: Tensor) -> int:
    quantization = tensor.Quantization()
    return 0 if quantization is None else int(quantization.ScaleLength())
