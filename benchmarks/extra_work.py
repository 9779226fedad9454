"""Add a known amount of real work to a trained model: what a gate on latency has to find.

A dense layer of some width reads the model's output and is a second output itself: one more operator in the vendor's
own int8 file, computed by the same runtime as the rest, whose cost grows with the width. Which width costs 3 % of a
model is measured, in many rounds separate from the test's. If one operator alone costs more there is no such model, and
none is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from public_models import TinyModel, tiny_model_file

CALIBRATION_ROUNDS, TRIES = 30, 8
FIRST_WIDTHS = (2048, 16384)
NEAR = (-0.001, 0.002)  # how far a slowdown should be from the requested size
FURTHEST = 0.1  # and how far it may be, as a share of that size: 2.7 to 3.3 % count as 3 %
INT8_VERSION = 4  # of the operator, the first that takes int8 weights and activations

Measured = tuple[float, float, float]  # point, low, high of candidate / baseline
MeasureRatio = Callable[[Path, Path, int], Measured]


def slowed_file(data: Path, folder: Path, name: TinyModel, width: int) -> Path:
    """Return the vendor's int8 file with extra work of `width` (0: unchanged), made once in `folder`."""
    path = folder / f"{name}-{width}.tflite"
    if not path.exists():
        given = tiny_model_file(data, name, "tflite")
        partial = path.with_suffix(".partial")
        partial.write_bytes(with_work(given, width) if width else given)
        partial.replace(path)
    return path


def with_work(given: bytes, width: int) -> bytes:
    """Add a dense layer behind the first output of a TFLite file, which is int8, or was before it became float32."""
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(given))
    graph = model.subgraphs[0]
    source = _quantized(graph)
    length, scale = int(graph.tensors[source].shape[-1]), float(graph.tensors[source].quantization.scale[0])
    generator = np.random.default_rng(0)

    def tensor(label: str, shape: tuple[int, ...], kind: int, step: float, values: Any = None) -> int:
        """Add a tensor to the graph, with its values if it is constant; return its number."""
        made = schema.TensorT()
        made.name, made.shape, made.type = label.encode(), np.asarray(shape, np.int32), kind
        made.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = np.asarray([step], np.float32), np.zeros(1, np.int64)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    types, weight_step = schema.TensorType, 0.01
    weights = generator.integers(-127, 128, (width, length), np.int8)
    dense = schema.OperatorT()
    dense.inputs = np.asarray(
        [
            source,
            tensor("extra_work/weights", weights.shape, types.INT8, weight_step, weights),
            tensor("extra_work/bias", (width,), types.INT32, scale * weight_step, np.zeros(width, np.int32)),
        ],
        np.int32,
    )
    result = tensor("extra_work", (1, width), types.INT8, 0.05)
    dense.outputs = np.asarray([result], np.int32)
    dense.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    dense.builtinOptions = schema.FullyConnectedOptionsT()
    dense.opcodeIndex = _operator(model, schema)
    graph.operators.append(dense)
    graph.outputs = np.append(graph.outputs, np.int32(result))
    model.signatureDefs = None  # they name the outputs, and would have to name this one too
    builder = flatbuffers.Builder(len(given) + 2 * weights.size)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _quantized(graph: Any) -> int:
    """Return the first output before its conversion to float32."""
    output = graph.outputs[0]
    if graph.tensors[output].quantization is not None and graph.tensors[output].quantization.scale is not None:
        return int(output)
    return int(next(operator for operator in graph.operators if output in operator.outputs).inputs[0])


def _operator(model: Any, schema: Any) -> int:
    """Return the index of the dense layer's operator among the file's."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = INT8_VERSION
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def width_of(size: float, file_of: Callable[[int], Path], ratio: MeasureRatio) -> tuple[int, Measured] | None:
    """Return the width whose work slows a model down by `size`, and its measured ratio; None if none does."""
    known = {width: ratio(file_of(width), file_of(0), CALIBRATION_ROUNDS) for width in FIRST_WIDTHS}
    for _ in range(TRIES):
        width = _between(known, 1 + size)
        if width not in known:
            known[width] = ratio(file_of(width), file_of(0), CALIBRATION_ROUNDS)
        if NEAR[0] <= known[width][0] - 1 - size <= NEAR[1]:
            return width, known[width]
    best = min(known, key=lambda width: abs(known[width][0] - 1 - size))
    return (best, known[best]) if abs(known[best][0] - 1 - size) <= FURTHEST * size else None


def _between(known: dict[int, Measured], wanted: float) -> int:
    """Interpolate the width between the two nearest measured ones."""
    first, second = sorted(known, key=lambda width: abs(known[width][0] - wanted))[:2]
    slope = (known[second][0] - known[first][0]) / (second - first)
    if slope <= 0:
        return max(8, round(1.2 * max(known)))
    return max(8, round(first + (wanted - known[first][0]) / slope))
