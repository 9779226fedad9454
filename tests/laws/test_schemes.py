"""Test settings of schemes that every format has: what stays in float."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.tflite.convert import convert_tflite, count_operators
from stages.formats.tflite.session import load_tflite

FORMATS = ("tflite", "onnx")


def convert(target_format: str, model: Any, samples: Any, **settings: Any) -> bytes:
    how = Quantization(**settings)
    if target_format == "tflite":
        return convert_tflite(model, how, "float32", samples)
    return convert_onnx(model, how, 17, samples)


def outputs(target_format: str, data: bytes, samples: Any) -> Any:
    return (load_tflite if target_format == "tflite" else load_onnx)(data).run({"image": samples})["head"]


def onnx_kernels(data: bytes) -> list[tuple[str, int]]:
    """Return for each node with a kernel its kind and its kernel's type: FLOAT also if a float kernel is cast up."""
    graph = onnx.load_from_string(data).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {
        n.output[0]: types[n.input[0]] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in types
    }
    kinds = ("Conv", "ConvInteger", "Gemm", "MatMul", "MatMulInteger")
    return [(node.op_type, types[node.input[1]]) for node in graph.node if node.op_type in kinds]


@pytest.mark.parametrize("scheme", ["int8", "dynamic", "weight_only"])
@pytest.mark.parametrize("target_format", FORMATS)
def test_named_layers_stay_in_float_and_no_others_do(
    target_format: str, scheme: str, tiny_xception: Any, tiny_images: Any, tflite_kernels
) -> None:
    """Where the scheme quantizes convolutions: ONNX's dynamic leaves depthwise kernels alone by itself."""
    plain = convert(target_format, tiny_xception, tiny_images, scheme=scheme)
    kept = convert(target_format, tiny_xception, tiny_images, scheme=scheme, keep_float=("separable",))
    if target_format == "tflite":
        before, after = ([kernel for _, kernel, _ in tflite_kernels(data)] for data in (plain, kept))
        if scheme == "weight_only":  # dequantized first: the operators read float
            assert [count_operators(data)["DEQUANTIZE"] for data in (plain, kept)] == [4, 2]
        else:
            # From the end: one that gathers channels can stand before them.
            assert before[-3:-1] == ["INT8", "INT8"]
            assert after[-3:-1] == ["FLOAT32", "FLOAT32"]
            assert (after[:-3], after[-1]) == (before[:-3], before[-1])
    else:
        floats = onnx.TensorProto.FLOAT
        before, after = ([kernel for _, kernel in onnx_kernels(data)] for data in (plain, kept))
        assert before[2] != floats
        assert after[1:3] == [floats, floats]
        assert (after[0], after[3]) == (before[0], before[3]) != (floats, floats)
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    assert np.abs(outputs(target_format, kept, tiny_images) - expected).max() < 0.08


def test_a_whole_model_kept_in_float_computes_as_float(tiny_xception: Any, tiny_images: Any) -> None:
    names = tuple(layer.name for layer in tiny_xception.layers if layer.name != "image")
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    for target_format in FORMATS:
        data = convert(target_format, tiny_xception, tiny_images, scheme="int8", keep_float=names)
        assert np.abs(outputs(target_format, data, tiny_images) - expected).max() < 1e-5
