"""Test settings of schemes: what stays in float, how many scales a kernel has, and the resulting ranges and types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from pipeline.errors import PreconditionError
from pipeline.records.schemes import Quantization
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.onnx.weights import store_weights_in_int8
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


def tflite_kernels(data: bytes) -> list[tuple[str, str, int]]:
    """Return for each operator with a kernel its kind, its kernel's type and how many scales that has."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    operators = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    types = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    found = []
    for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            kernel = graph.Tensors(int(operator.InputsAsNumpy()[1]))
            scales = kernel.Quantization().ScaleLength() if kernel.Quantization() else 0
            found.append((kind, types[kernel.Type()], scales))
    return found


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
    target_format: str, scheme: str, tiny_xception: Any, tiny_images: Any
) -> None:
    """Where the scheme quantizes convolutions: ONNX's dynamic leaves depthwise kernels alone by itself."""
    plain = convert(target_format, tiny_xception, tiny_images, scheme=scheme)
    kept = convert(target_format, tiny_xception, tiny_images, scheme=scheme, keep_float=("separable",))
    if target_format == "tflite":
        before, after = ([kernel for _, kernel, _ in tflite_kernels(data)] for data in (plain, kept))
        if scheme == "weight_only":  # dequantized first: the operators read float
            assert [count_operators(data)["DEQUANTIZE"] for data in (plain, kept)] == [4, 2]
        else:
            assert before[1:3] == ["INT8", "INT8"]
            assert after[1:3] == ["FLOAT32", "FLOAT32"]
            assert (after[0], after[3]) == (before[0], before[3])
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


@pytest.mark.parametrize("scheme", ["int8", "dynamic"])
def test_tflite_kernels_have_a_scale_a_channel_or_one(scheme: str, tiny_xception: Any, tiny_images: Any) -> None:
    scales = {
        granularity: [
            count
            for _, kernel, count in tflite_kernels(
                convert("tflite", tiny_xception, tiny_images, scheme=scheme, granularity=granularity)
            )
            if kernel == "INT8"
        ]
        for granularity in ("per_channel", "per_tensor")
    }
    assert max(scales["per_channel"]) == 40
    assert set(scales["per_tensor"]) == {1}


@pytest.mark.parametrize("scheme", ["int8", "weight_only"])
def test_onnx_kernels_have_a_scale_a_channel_or_one(scheme: str, tiny_xception: Any, tiny_images: Any) -> None:
    largest = {}
    for granularity in ("per_channel", "per_tensor"):
        data = convert("onnx", tiny_xception, tiny_images, scheme=scheme, granularity=granularity)
        graph = onnx.load_from_string(data).graph
        sizes = {tensor.name: int(np.prod(tensor.dims, initial=1)) for tensor in graph.initializer}
        kernels = {tensor.name for tensor in graph.initializer if len(tensor.dims) >= 2}
        casts = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in kernels]
        assert len(casts) == 4
        largest[granularity] = max(sizes[node.input[1]] for node in casts)
    assert largest == {"per_channel": 40, "per_tensor": 1}


def test_weights_in_8_bits_are_off_by_half_a_step_at_most(tiny_xception: Any) -> None:
    model = onnx.load_from_string(convert_onnx(tiny_xception, "float32"))
    small = store_weights_in_int8(model, per_channel=True)
    before = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    after = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    casts = [node for node in small.graph.node if node.op_type == "DequantizeLinear"]
    assert len(casts) == 4
    for node in casts:
        kernel, scale = after[node.input[0]].astype(np.float32), after[node.input[1]]
        axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
        shape = [-1 if n == axis else 1 for n in range(kernel.ndim)]
        error = np.abs(kernel * scale.reshape(shape) - before[node.output[0]])
        assert (error <= scale.reshape(shape) * 0.5001).all()
        assert error.max() > 0


def test_calibration_methods_give_ranges_of_their_own(tiny_xception: Any, tiny_images: Any) -> None:
    """One outlier in 64 images: minimum and maximum follow it, the others do not."""
    samples = tiny_images.copy()
    samples[0, 0, 0, 0] = 50.0
    scales: dict[str, float] = {}
    for name, settings in {
        "min_max": {}, "percentile": {"percentile": 99.0}, "entropy": {}, "mse": {},
    }.items():  # fmt: skip
        data = convert("onnx", tiny_xception, samples, scheme="int8", calibration=name, **settings)
        graph = onnx.load_from_string(data).graph
        values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
        scales[name] = float(values[first.input[1]])
    assert scales["min_max"] == pytest.approx(51.0 / 255, rel=0.02)
    assert scales["percentile"] == pytest.approx(2.0 / 255, rel=0.2)
    assert scales["entropy"] < scales["min_max"] / 2
    assert 0.9 < scales["mse"] / scales["min_max"] < 0.99  # heavy clipping costs more than fine steps save


@pytest.mark.parametrize(("activations", "zero_points"), [(None, "uint8"), ("unsigned", "uint8"), ("signed", "int8")])
def test_onnx_activations_are_unsigned_or_signed(
    activations: str | None, zero_points: str, tiny_xception: Any, tiny_images: Any
) -> None:
    data = convert("onnx", tiny_xception, tiny_images, scheme="int8", activations=activations)
    graph = onnx.load_from_string(data).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kinds = {values[node.input[2]].dtype.name for node in graph.node if node.op_type == "QuantizeLinear"}
    assert kinds == {zero_points}
    assert {values[name].dtype.name for name in values if values[name].ndim >= 2} == {"int8"}
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    assert np.abs(outputs("onnx", data, tiny_images) - expected).max() < 0.08


def test_onnx_runtime_computes_all_of_an_int8_file_in_8_bits(
    tiny_xception: Any, tiny_images: Any, tmp_path: Path
) -> None:
    """Additions and layers next to a ReLU that two layers read: with signed activations these stay in float."""
    optimized = str(tmp_path / "optimized.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = optimized, 4
    onnxruntime.InferenceSession(convert("onnx", tiny_xception, tiny_images, scheme="int8"), options)
    kinds = [node.op_type for node in onnx.load(optimized).graph.node]
    assert not {"Conv", "Add", "Gemm", "GlobalAveragePool"} & set(kinds)
    assert kinds.count("QLinearConv") == 3


def test_int16x8_inputs_and_outputs_can_be_whole_numbers(tiny_xception: Any, tiny_images: Any) -> None:
    loaded = load_tflite(convert_tflite(tiny_xception, "int16x8", "int16", tiny_images))
    assert [spec.dtype for spec in (*loaded.inputs, *loaded.outputs)] == ["int16", "int16"]
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    assert np.abs(loaded.run({"image": tiny_images})["head"] - expected).max() < 0.02


def test_onnx_has_no_int16x8(tiny_xception: Any, tiny_images: Any) -> None:
    with pytest.raises(PreconditionError, match="16-bit activations"):
        convert("onnx", tiny_xception, tiny_images, scheme="int16x8")
