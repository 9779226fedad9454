"""Test pruned networks in 8 bits: filters near zero keep their bias, inactive branches stay silent."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.overrides import BIAS_STEPS, RANGE, weight_overrides
from stages.formats.onnx.ranges import usable_ranges
from stages.formats.onnx.session import load_onnx
from stages.keras.tensorflow import import_keras

LARGE = (np.random.default_rng(0).random((32, 6, 6, 3)) * 255).astype(np.float32)  # like images that nobody scaled


def difference(model: Any, x: Any, calibration: Any = None, told: list[str] | None = None, **settings: Any) -> float:
    """Return the int8 file's difference from Keras, relative to the largest output."""
    how, notes = Quantization(scheme="int8", **settings), told if told is not None else []
    data = convert_onnx(model, how, calibration=x if calibration is None else calibration, told=notes.append)
    (actual,) = load_onnx(data).run({"x": x}).values()
    wanted = np.asarray(model(x, training=False))
    return float(np.abs(actual - wanted).max() / np.abs(wanted).max())


def pruned(value: float, bias: float, dead: int = 3) -> Any:
    """Build two convolutions; `dead` of the six kernels of the first are multiplied by `value`."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 3), name="x")
    y = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    y = keras.layers.Conv2D(5, 3, padding="same", activation="relu")(y)
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(y)))
    kernel, biases = model.get_layer("first").get_weights()
    kernel = kernel / 255
    kernel[..., :dead] *= value
    biases[:dead] = bias
    model.get_layer("first").set_weights([kernel, biases])
    return model


@pytest.mark.parametrize(("value", "bias"), [(0.0, 0.3), (1e-9, 0.3), (1e-5, 3.0), (0.0, -0.3)])
@pytest.mark.parametrize("granularity", [None, "per_tensor"])
def test_filters_of_nearly_nothing_keep_their_bias(value: float, bias: float, granularity: str | None) -> None:
    assert difference(pruned(value, bias), LARGE, granularity=granularity) < 0.03


def test_a_layer_of_zeros_only_keeps_its_bias() -> None:
    model = pruned(0.0, 0.3, dead=6)
    assert difference(model, LARGE) < 0.02
    assert difference(model, LARGE, granularity="per_tensor") < 0.02


@pytest.mark.parametrize("granularity", [None, "per_tensor"])
def test_a_bias_that_dwarfs_its_weights_leaves_room_for_the_sum(granularity: str | None) -> None:
    """In steps of input and kernel the bias is 2**31, where adding a product of two bytes changes its sign."""
    keras = import_keras()
    inputs = keras.Input((2000,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    kernel = np.full((2000, 3), 0.5 * RANGE / 2**31, np.float32)
    model.set_weights([kernel, np.array([0.5, 0.4, -0.2], np.float32)])
    x = np.full((4, 2000), 255.0, np.float32)
    x[:, 0] = 0.0
    assert difference(model, x, granularity=granularity) < 0.02


@pytest.mark.parametrize("activations", ["signed", "unsigned"])
def test_a_branch_that_sleeps_stays_silent(activations: str) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 3), name="x")
    asleep = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="asleep")(inputs)
    awake = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    after = keras.layers.Conv2D(4, 1, name="after")(asleep)
    y = keras.layers.Add()([asleep, awake, after])
    model = keras.Model(inputs, keras.layers.Conv2D(3, 3)(y))
    kernel, _ = model.get_layer("asleep").get_weights()
    model.get_layer("asleep").set_weights([-np.abs(kernel), np.full(4, -5.0, np.float32)])
    model.get_layer("after").set_weights([model.get_layer("after").kernel, np.full(4, 0.004, np.float32)])
    assert difference(model, LARGE / 255, activations=activations) < 0.03


@pytest.mark.parametrize("build", ["LocallyConnected1D", "LocallyConnected2D"])
def test_locally_connected_layers_have_one_scale_and_a_note(build: str) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    shape = (10, 3) if build.endswith("1D") else (5, 5, 2)
    inputs = keras.Input(shape, name="x")
    model = keras.Model(inputs, getattr(keras.layers, build)(2, 3)(inputs))
    x, told = np.random.default_rng(0).standard_normal((16, *shape)).astype(np.float32), list[str]()
    assert difference(model, x, told=told) < 0.03
    assert len(told) == 1
    assert told[0].startswith("1 of the weights in products of matrices have one scale instead of one a channel")
    assert difference(model, x, told=told, granularity="per_tensor") < 0.03
    assert len(told) == 1  # nothing differed from the request


def gemm(kernel: Any, bias: Any) -> Any:
    node = onnx.helper.make_node("Gemm", ["x", "kernel", "bias"], ["y"])
    given = {"kernel": np.asarray(kernel, np.float32), "bias": np.asarray(bias, np.float32)}
    tensors = [onnx.numpy_helper.from_array(values, name) for name, values in given.items()]
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [], tensors))


def test_scales_grow_only_where_a_bias_does_not_fit() -> None:
    model, ranges = gemm([[0.0, 1.0], [0.0, -2.0]], [0.5, 0.5]), {"x": (0.0, 255.0)}
    overrides, notes = weight_overrides(model, ranges, None, per_channel=True)
    assert notes == []
    limits = [channel["rmax"] for channel in overrides["kernel"]]
    assert limits == pytest.approx([RANGE * 0.5 / BIAS_STEPS, 2.0])
    assert weight_overrides(gemm([[1.0, 1.0]], [0.5, 0.5]), ranges, None, per_channel=True)[0] == {}
    assert weight_overrides(model, {}, None, per_channel=True)[0] == {}  # its input stays float
    assert weight_overrides(model, ranges, None, per_channel=False)[0] == {}


def test_ranges_that_can_be_used() -> None:
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["a"]),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("Conv", ["b", "w"], ["c"]),
        onnx.helper.make_node("Relu", ["c"], ["d"]),
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    measured = {"x": (0.0, 1.0), "a": (-3.0, -1.0), "b": (0.0, 0.0), "c": (0.0, 0.0), "d": (-0.1, 2.0)}
    assert usable_ranges(model, measured) == {
        "x": (0.0, 1.0), "a": (-3.0, -1.0), "b": (0.0, 3.0), "c": (-3.0, 3.0), "d": (0.0, 2.0),
    }  # fmt: skip
