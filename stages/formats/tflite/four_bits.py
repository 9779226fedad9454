"""Store weights in 4 bits by ai-edge-quantizer, where LiteRT computes them right; the others stay in 8 bits.

What was found with LiteRT 2.3.0 and ai-edge-quantizer 0.10.0:

- DEQUANTIZE reads 4 bits, with a scale a channel or a tensor, in front of any operator. Blocks it reads as nothing:
  the outputs are wrong, without an error.
- CONV_2D and FULLY_CONNECTED have kernels for 4-bit weights and float activations. DEPTHWISE_CONV_2D, TRANSPOSE_CONV
  and BATCH_MATMUL refuse them. Only FULLY_CONNECTED has blocks.
- Depthwise kernels stay in 8 bits also where they are dequantized: they are few, and lost more than all others.
- The clipped range of OCTAV (Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation for Improved
  Quantization-aware Training", 2022) loses less than the range from minimum to maximum: ResNet-8 73.7 % instead of
  72.2 %, with a scale a tensor 71.4 % instead of 43.6 % (Keras 82.05 %).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.records.schemes import Quantization, Scheme
from stages.formats.tflite.blocks import scales_of_blocks
from stages.formats.tflite.tensors import operator_kinds

if TYPE_CHECKING:
    import numpy as np
    from ai_edge_litert.schema_py_generated import Model, Operator, SubGraph, Tensor
    from ai_edge_quantizer import Quantizer
    from numpy.typing import NDArray

# The names are those of ai-edge-quantizer.
OPERATORS: Mapping[Scheme, tuple[str, ...]] = {
    "int4_weight_only": ("CONV_2D", "FULLY_CONNECTED", "CONV_2D_TRANSPOSE", "BATCH_MATMUL"),
    "int4_dynamic": ("CONV_2D", "FULLY_CONNECTED"),
}
BLOCK = 32
# Scales of blocks are float16: kernels outside of these largest weights keep a scale a channel.
BLOCK_RANGE = (7 * 2.0**-14, 7 * 65280.0)
LEAST_SCALE, LEAST_HALF = 1e-9, 2.0**-24
WHY_8_BITS: Mapping[Scheme, str] = {
    "int4_weight_only": "4 bits cost these kernels most",
    "int4_dynamic": "LiteRT has no 4-bit kernels for them",
}
ONLY_XNNPACK = (
    "its blocks of 4-bit weights need XNNPACK, LiteRT's default on CPUs: LiteRT's other kernels compute them wrong "
    "without an error (granularity: per_channel runs in all of them)"
)


def add_four_bits(quantizer: Quantizer, how: Quantization, data: bytes) -> None:
    """Add rules for 4 bits to a quantizer of a float32 file `data`, after its rules for 8 bits."""
    from ai_edge_quantizer import qtyping

    granularity = qtyping.QuantGranularity
    usual = granularity.TENSORWISE if how.granularity == "per_tensor" else granularity.CHANNELWISE
    for name in OPERATORS[how.scheme]:
        _add(quantizer, how, ".*", name, usual)
    if how.granularity == "per_block":
        for name in _fit_for_blocks(data):
            _add(quantizer, how, scope_of(name), "FULLY_CONNECTED", granularity.BLOCKWISE_32)


def scope_of(name: str) -> str:
    """Return the pattern by which ai-edge-quantizer finds the operator with this output, and no other."""
    return f"(^|;){re.escape(name)};"


def _add(quantizer: Quantizer, how: Quantization, scope: str, operator: str, granularity: Any) -> None:
    from ai_edge_quantizer import qtyping

    weights = qtyping.TensorQuantizationConfig(num_bits=4, symmetric=True, granularity=granularity)
    dequantized = how.scheme == "int4_weight_only"
    precision = qtyping.ComputePrecision
    settings = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=precision.FLOAT if dequantized else precision.INTEGER,
        explicit_dequantize=dequantized,
        skip_checks=dequantized,  # its list of operators lacks the transposed convolution
    )
    quantizer.update_quantization_recipe(scope, qtyping.TFLOperationName[operator], settings, algorithm_key="OCTAV")


def _fit_for_blocks(data: bytes) -> list[str]:
    """Return the outputs' names of dense operators whose kernels can have a scale a block."""
    import numpy as np

    fit, unfit = set[str](), set[str]()
    for model, graph, operators in _graphs(data):
        for operator in (operator for kind, operator in operators if kind == "FULLY_CONNECTED"):
            kernel, name = graph.Tensors(operator.Inputs(1)), graph.Tensors(operator.Outputs(0)).Name().decode()
            largest = float(np.abs(_constant(model, kernel).view(np.float32)).max(initial=0))
            divides = kernel.ShapeAsNumpy()[-1] % BLOCK == 0
            (fit if divides and BLOCK_RANGE[0] <= largest <= BLOCK_RANGE[1] else unfit).add(name)
    return sorted(fit - unfit)


def repaired(data: bytes) -> bytes:
    """Return ai-edge-quantizer's file with numbers that all of LiteRT's kernels take, and with its weights inside.

    Codes in FULLY_CONNECTED become -7 to 7: with -8, LiteRT's kernel without XNNPACK computes other numbers (8 dB),
    without an error. Elsewhere -8 is right, and what OCTAV chose. A channel or block of zeros gets a scale above 0, or
    XNNPACK does not load the file. Large weights lie behind the flatbuffer, where most of its readers find none.
    """
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    for graph, kinds in zip(model.subgraphs, operator_kinds(data), strict=True):
        dense = {o.inputs[1] for o, kind in zip(graph.operators, kinds, strict=True) if kind == "FULLY_CONNECTED"}
        for index, tensor in enumerate(graph.tensors):
            if tensor.type != schema.TensorType.INT4:
                continue
            if index in dense:
                buffer = model.buffers[tensor.buffer]
                codes = np.frombuffer(buffer.data, np.uint8)
                low, high = codes & 15, codes >> 4
                buffer.data = np.where(low == 8, 9, low) | np.where(high == 8, 9, high) << 4
            place = scales_of_blocks(tensor)
            if place is None:
                tensor.quantization.scale = [scale or LEAST_SCALE for scale in tensor.quantization.scale]
            else:
                buffer = model.buffers[graph.tensors[place].buffer]
                scales = np.frombuffer(buffer.data, np.float16)
                buffer.data = np.where(scales == 0, np.float16(LEAST_HALF), scales).view(np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def doubts_about_4_bits(data: bytes, how: Quantization) -> tuple[str, ...]:
    """Return a sentence about operators whose weights stay in 8 bits, and one about blocks; none in other schemes."""
    if how.scheme not in OPERATORS:
        return ()
    counts = Counter(_with_8_bits(data))
    listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(counts.items()))
    text = f"8 bits stay in {listed}: {WHY_8_BITS[how.scheme]}"
    return (*((text,) if counts else ()), *((ONLY_XNNPACK,) if how.granularity == "per_block" else ()))


def _with_8_bits(data: bytes) -> Iterator[str]:
    """Yield the kind of each operator that reads 8-bit weights, itself or behind a DEQUANTIZE."""
    from ai_edge_litert import schema_py_generated as schema

    for model, graph, operators in _graphs(data):
        tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
        narrow = {
            index
            for index, tensor in enumerate(tensors)
            if tensor.Type() == schema.TensorType.INT8 and len(_constant(model, tensor))
        }
        for kind, operator in operators:
            if narrow.isdisjoint(map(int, operator.InputsAsNumpy() if operator.InputsLength() else ())):
                continue
            if kind == "DEQUANTIZE":
                narrow.add(operator.Outputs(0))
            else:
                yield kind


def _graphs(data: bytes) -> Iterator[tuple[Model, SubGraph, list[tuple[str, Operator]]]]:
    """Yield the file, each subgraph of it, and the subgraph's operators with their kinds."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    for number, kinds in enumerate(operator_kinds(data)):
        graph = model.Subgraphs(number)
        yield model, graph, [(kind, graph.Operators(index)) for index, kind in enumerate(kinds)]


def _constant(model: Model, tensor: Tensor) -> NDArray[np.uint8]:
    """Return the bytes of a constant, a view of the file; none of any other tensor."""
    import numpy as np

    buffer = model.Buffers(tensor.Buffer())
    return buffer.DataAsNumpy() if buffer.DataLength() else np.empty(0, np.uint8)
