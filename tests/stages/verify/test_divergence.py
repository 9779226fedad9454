"""Check which layer is named where a file and Keras part."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.formats.format import FileTensor
from stages.keras.layer_calls import record_layers
from stages.keras.tensorflow import import_keras
from stages.verify.divergence import describe_divergence

X = np.random.default_rng(0).standard_normal((1, 4)).astype(np.float32)


def test_the_first_layer_that_no_tensor_reproduces_is_named(nested: Any) -> None:
    calls = record_layers(nested, {"x": X})
    values = {call.layer: call.outputs[0] for call in calls}
    whole = [FileTensor(f"t_{name}", value) for name, value in values.items()]
    assert "each layer's output is found" in describe_divergence(calls, whole, 80.0)
    fused = [tensor for tensor in whole if tensor.name not in ("t_first", "t_sum")]
    assert "each layer's output is found" in describe_divergence(calls, fused, 80.0)
    broken = [
        FileTensor(t.name, t.values * 1.1 if t.name in ("t_second", "t_sum", "t_head") else t.values) for t in whole
    ]
    said = describe_divergence(calls, broken, 80.0)
    assert said == "the first layer that differs is 'second'; 'first' before it agrees (t_first)"
    assert "no single layer" in describe_divergence(calls, broken, 15.0)


def test_layouts_are_no_difference() -> None:
    from stages.keras.layer_calls import LayerCall

    image = np.random.default_rng(1).standard_normal((1, 3, 4, 2)).astype(np.float32)
    calls = [LayerCall("conv", (image,), frozenset())]
    assert "each layer's output" in describe_divergence(calls, [FileTensor("t", image.transpose(0, 3, 1, 2))], 80.0)
    assert "'conv'" in describe_divergence(calls, [FileTensor("t", image.transpose(0, 2, 1, 3))], 80.0)


def test_shapes_are_not_blamed_for_a_difference() -> None:
    from stages.keras.layer_calls import LayerCall

    values = np.random.default_rng(1).standard_normal((1, 6)).astype(np.float32)
    calls = [
        LayerCall("shape", (np.array([1, 6], np.int32),), frozenset()),
        LayerCall("dense", (values,), frozenset()),
    ]
    said = describe_divergence(calls, [FileTensor("t", values * np.float32(1.5))], 80.0)
    assert said == "the first layer that differs is 'dense'"


def dead_filter(bias: float) -> Any:
    """Its second convolution has a filter of zeros, whose output is its bias alone, weighted most in the head."""
    keras = import_keras()
    keras.utils.set_random_seed(2)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(4, name="head")(x))
    kernel, biases = model.get_layer("second").get_weights()
    kernel[..., 3], biases[3] = 0, bias
    model.get_layer("second").set_weights([kernel, biases])
    kernel, biases = model.get_layer("head").get_weights()
    kernel[3] *= 60
    model.get_layer("head").set_weights([kernel, biases])
    return model


def test_a_bias_that_was_lost_is_told_of_its_layer_and_channel_not_of_the_head_that_weighs_it() -> None:
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.registry import file_tensors

    samples = (np.random.default_rng(0).standard_normal((16, 8, 8, 3)) * 30).astype(np.float32)
    lost = convert_onnx(dead_filter(0.0), "int8", calibration=samples)
    calls = record_layers(dead_filter(4.0), {"image": samples[:1]})
    tensors = file_tensors("onnx-model", lost, {"image": samples[:1]})
    said = describe_divergence(calls, tensors, 12.0)
    assert said.startswith("the first layer that differs is 'second', in channel 3 of 8; 'first' before it agrees")
    right = convert_onnx(dead_filter(4.0), "float32")
    assert "each layer's output is found" in describe_divergence(
        calls, file_tensors("onnx-model", right, {"image": samples[:1]}), 12.0
    )


def test_a_layer_that_computes_what_it_should_of_what_it_is_given_is_not_blamed(nested: Any) -> None:
    keras = import_keras()
    x = keras.Input((4,), name="x")
    small = keras.layers.Dense(4, use_bias=False, name="small")(x)
    model = keras.Model(x, keras.layers.Dense(1, use_bias=False, name="last")(small))
    weights = [np.eye(4, dtype=np.float32), np.array([[1], [-1], [1], [-1]], np.float32)]  # common parts cancel
    model.set_weights(weights)
    given = np.array([[10, 10.1, 10, 10.1]], np.float32)
    calls = record_layers(model, {"x": given})
    off = given + np.array([[0.5, 0, 0.5, 0]], np.float32)  # 26 dB, and the sum of another sign
    tensors = [FileTensor("t_small", off), FileTensor("t_last", off @ weights[1])]

    def recompute(name: str, values: Any) -> Any:
        return np.asarray(model.get_layer(name)(values))

    assert "differs is 'last'" in describe_divergence(calls, tensors, 12.0)
    said = describe_divergence(calls, tensors, 12.0, recompute)
    assert said.startswith(
        "which layer differs first is not known: 'last' is the first that is far off, but it computes"
    )
    wrong = [tensors[0], FileTensor("t_last", 3 * tensors[1].values)]
    assert "differs is 'last'" in describe_divergence(calls, wrong, 12.0, recompute)


def test_a_layer_that_was_fused_is_not_called_the_farthest(nested: Any) -> None:
    calls = record_layers(nested, {"x": X})
    values = {call.layer: call.outputs[0] for call in calls}
    noisy = [
        FileTensor(f"t_{name}", value * (1.05 if name == "head" else 1.0))
        for name, value in values.items()
        if name != "first"  # fused: the nearest tensor is another layer's
    ]
    said = describe_divergence(calls, noisy, 12.0)
    assert "most by 'head' (26 dB)" in said
