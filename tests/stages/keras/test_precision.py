"""Test models of mixed precision in float32: same weights and function except for half precision's rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.normal_form import relative_difference
from stages.keras.precision import half_precision_of, in_float32, shared_in_float32
from stages.keras.stored import shared_model
from stages.keras.tensorflow import import_keras
from stages.verify.config import EvaluateConfig


def small(policy: str, last: str | None = "float32") -> Any:
    """Build a network under a policy, with another one inside it."""
    keras = import_keras()
    keras.mixed_precision.set_global_policy(policy)
    keras.utils.set_random_seed(2)
    try:
        inner_input = keras.Input((8, 8, 4))
        inner = keras.Model(inner_input, keras.layers.BatchNormalization()(inner_input), name="inner")
        image = keras.Input((8, 8, 3), name="image")
        y = inner(keras.layers.Conv2D(4, 3, padding="same")(image))
        return keras.Model(image, keras.layers.Dense(3, dtype=last)(keras.layers.GlobalAveragePooling2D()(y)))
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize(("policy", "half"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")])
@pytest.mark.parametrize("last", ["float32", None])
def test_the_twin_computes_what_float32_keras_does(policy: str, half: str, last: str | None) -> None:
    mixed, full = small(policy, last), small("float32")
    full.set_weights(mixed.get_weights())
    assert half_precision_of(mixed) == half
    twin = in_float32(mixed)
    assert half_precision_of(twin) is None
    assert [output.dtype.name for output in twin.outputs] == ["float32"]
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(twin(x), full(x))
    assert 1e-5 < relative_difference(full(x), np.asarray(mixed(x), np.float32)) < 0.1
    assert in_float32(full) is full


def stored(make_context: Callable[..., Any], model: Any) -> Any:
    context = make_context(EvaluateConfig())
    context.inputs = {"model": context.write_model(model)}
    return context


def test_a_stored_model_has_one_twin(make_context: Callable[..., Any]) -> None:
    context = stored(make_context, small("mixed_float16"))
    twin = shared_in_float32(context, "model")
    assert half_precision_of(twin) is None
    assert shared_in_float32(context, "model") is twin
    assert half_precision_of(shared_model(context, "model")) == "float16"  # stays what it is
    context = stored(make_context, small("float32"))
    assert shared_in_float32(context, "model") is shared_model(context, "model")


def test_what_rounding_does_not_explain_is_refused(
    make_context: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = stored(make_context, small("mixed_float16"))
    monkeypatch.setattr("stages.keras.precision.ROUNDINGS", 1e-3)
    with pytest.raises(ModelError, match=r"in float32 the model computes something else .* rounding explains 1e-06"):
        shared_in_float32(context, "model")
