"""Test ONNX's schemes: how many scales a kernel has, ranges, and the types of what is computed."""

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
from stages.formats.onnx.kernels import kernels_of
from stages.formats.onnx.session import load_onnx
from stages.keras.tensorflow import import_keras


def convert(model: Any, samples: Any, **settings: Any) -> bytes:
    return convert_onnx(model, Quantization(**settings), 17, samples)


def outputs(data: bytes, samples: Any) -> Any:
    return load_onnx(data).run({"image": samples})["head"]


@pytest.mark.parametrize("scheme", ["int8", "weight_only"])
def test_onnx_kernels_have_a_scale_a_channel_or_one(scheme: str, tiny_xception: Any, tiny_images: Any) -> None:
    largest = {}
    for granularity in ("per_channel", "per_tensor"):
        data = convert(tiny_xception, tiny_images, scheme=scheme, granularity=granularity)
        graph = onnx.load_from_string(data).graph
        sizes = {tensor.name: int(np.prod(tensor.dims, initial=1)) for tensor in graph.initializer}
        kernels = {tensor.name for tensor in graph.initializer if len(tensor.dims) >= 2}
        casts = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in kernels]
        assert len(casts) == 4
        largest[granularity] = max(sizes[node.input[1]] for node in casts)
    assert largest == {"per_channel": 40, "per_tensor": 1}


def test_calibration_methods_give_ranges_of_their_own(tiny_xception: Any, tiny_images: Any) -> None:
    """One outlier in 64 images: the input keeps it, and behind it minimum and maximum follow it, the others do not."""
    samples = tiny_images.copy()
    samples[0, 0, 0, 0] = 50.0
    scales: dict[str, list[float]] = {}
    for name, settings in {
        "min_max": {}, "percentile": {"percentile": 99.0}, "entropy": {}, "mse": {},
    }.items():  # fmt: skip
        data = convert(tiny_xception, samples, scheme="int8", calibration=name, **settings)
        graph = onnx.load_from_string(data).graph
        values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        scales[name] = [float(values[n.input[1]]) for n in graph.node if n.op_type == "QuantizeLinear"]
    assert {name: own[0] for name, own in scales.items()} == pytest.approx(dict.fromkeys(scales, 51.0 / 255), rel=0.02)
    widest = {name: max(own[1:]) for name, own in scales.items()}
    assert widest["percentile"] < widest["min_max"] / 2
    assert widest["entropy"] < widest["min_max"] / 2
    assert 0.5 < widest["mse"] / widest["min_max"] < 1


@pytest.mark.parametrize(("activations", "zero_points"), [(None, "uint8"), ("unsigned", "uint8"), ("signed", "int8")])
def test_onnx_activations_are_unsigned_or_signed(
    activations: str | None, zero_points: str, tiny_xception: Any, tiny_images: Any
) -> None:
    data = convert(tiny_xception, tiny_images, scheme="int8", activations=activations)
    graph = onnx.load_from_string(data).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kinds = {values[node.input[2]].dtype.name for node in graph.node if node.op_type == "QuantizeLinear"}
    assert kinds == {zero_points}
    assert {values[name].dtype.name for name in values if values[name].ndim >= 2} == {"int8"}
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    assert np.abs(outputs(data, tiny_images) - expected).max() < 0.08


def test_onnx_runtime_computes_all_of_an_int8_file_in_8_bits(
    tiny_xception: Any, tiny_images: Any, tmp_path: Path
) -> None:
    """Additions and layers next to a ReLU that two layers read: with signed activations these stay in float."""
    optimized = str(tmp_path / "optimized.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = optimized, 4
    onnxruntime.InferenceSession(convert(tiny_xception, tiny_images, scheme="int8"), options)
    kinds = [node.op_type for node in onnx.load(optimized).graph.node]
    assert not {"Conv", "Add", "Gemm", "GlobalAveragePool"} & set(kinds)
    assert kinds.count("QLinearConv") == 3


def test_onnx_has_no_int16x8(tiny_xception: Any, tiny_images: Any) -> None:
    with pytest.raises(PreconditionError, match="16-bit activations"):
        convert(tiny_xception, tiny_images, scheme="int16x8")


@pytest.mark.parametrize(("channels", "kernel", "types"), [(1, 3, ["Conv"]), (3, 3, ["Conv"]), (4, 3, []), (3, 9, [])])
def test_a_first_convolution_of_few_channels_stays_in_float(channels: int, kernel: int, types: list[str]) -> None:
    """It stays up to three channels, and where it holds no more than a quarter of the weights: not with 9 by 9."""
    keras = import_keras()
    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, channels), name="image")
    x = keras.layers.Conv2D(8, kernel, strides=2, activation="relu", name="first")(image)
    x = keras.layers.Conv2D(24, 3, activation="relu", name="second")(x)
    model = keras.Model(image, keras.layers.Dense(4, name="head")(keras.layers.Flatten()(x)))
    samples = np.random.default_rng(5).normal(size=(32, 16, 16, channels)).astype(np.float32)
    data = convert(model, samples, scheme="int8")
    graph = onnx.load_from_string(data).graph
    makers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    in_float = [node for node in convolutions if node.input[1] not in makers]
    assert [node.op_type for node in in_float] == types
    assert len(convolutions) == 2
    # The activation goes with it: no conversion stands between them, so that ONNX Runtime fuses them.
    readers = [node.op_type for node in graph.node if any(node.input[0] == one.output[0] for one in in_float)]
    assert readers == ["Relu"] * len(types)
    wanted = np.asarray(model(samples))
    assert float(np.square(outputs(data, samples) - wanted).mean()) < 1e-3 * float(np.square(wanted).mean())


@pytest.mark.parametrize(("units", "kinds"), [(3, {"Gemm"}), (400, {"QGemm"})])
def test_a_small_dense_layer_at_the_end_stays_in_float(units: int, kinds: set[str], tmp_path: Path) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 8), name="image")
    x = keras.layers.Conv2D(32, 3, activation="relu", name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    dense = keras.layers.Dense(units, activation="softmax", bias_initializer="random_normal", name="head")
    model = keras.Model(image, dense(x))
    samples = np.random.default_rng(5).normal(size=(32, 8, 8, 8)).astype(np.float32)
    data = convert(model, samples, scheme="int8")
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    kernels = {kernel.operator for kernel in kernels_of(path, "test")}
    assert kernels & {"Gemm", "QGemm"} == kinds
    assert "QLinearConv" in kernels
    assert np.abs(outputs(data, samples) - np.asarray(model(samples))).max() < 0.02
