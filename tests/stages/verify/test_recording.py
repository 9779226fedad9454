"""What layers give out, nested ones too, and who reads whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.file_tensors import FileTensor
from stages.layer_calls import first_not_finite, record_layers
from stages.tf_runtime import import_keras
from stages.verify.divergence import describe_divergence

X = np.random.default_rng(0).standard_normal((1, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def nested() -> Any:
    """stem → block(first → second) → sum of both → head."""
    keras = import_keras()
    layers = keras.layers
    inside = keras.Input((5,))
    block = keras.Model(inside, layers.Dense(5, name="second")(layers.Dense(5, name="first")(inside)), name="block")
    inputs = keras.Input((4,), name="x")
    stem = layers.Dense(5, name="stem")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Add(name="sum")([stem, block(stem)])))


def test_layers_of_nested_models_in_order_with_what_they_read(nested: Any) -> None:
    calls = record_layers(nested, {"x": X})
    assert [call.layer for call in calls if call.layer != "x"] == ["stem", "first", "second", "sum", "head"]
    place = {call.layer: index for index, call in enumerate(calls)}
    assert calls[place["sum"]].reads == {place["stem"], place["second"]}
    assert calls[place["first"]].reads == {place["stem"]}
    np.testing.assert_array_equal(calls[-1].outputs[0], nested(X))
    assert not any("call" in vars(layer) for layer in nested.layers)


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
    from stages.layer_calls import LayerCall

    image = np.random.default_rng(1).standard_normal((1, 3, 4, 2)).astype(np.float32)
    calls = [LayerCall("conv", (image,), frozenset())]
    assert "each layer's output" in describe_divergence(calls, [FileTensor("t", image.transpose(0, 3, 1, 2))], 80.0)
    assert "'conv'" in describe_divergence(calls, [FileTensor("t", image.transpose(0, 2, 1, 3))], 80.0)


def test_the_first_layer_with_nan_is_named(nested: Any) -> None:
    assert first_not_finite(nested, {"x": X}) is None
    assert first_not_finite(nested, X) is None
    assert first_not_finite(nested, {"x": X * np.float32(np.inf)}) == "stem"
