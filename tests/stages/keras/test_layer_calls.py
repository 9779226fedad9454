"""Check what is recorded of layers, including nested ones, and who reads whom."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.keras.layer_calls import first_not_finite, record_layers

X = np.random.default_rng(0).standard_normal((1, 4)).astype(np.float32)


def test_layers_of_nested_models_in_order_with_what_they_read(nested: Any) -> None:
    calls = record_layers(nested, {"x": X})
    assert [call.layer for call in calls if call.layer != "x"] == ["stem", "first", "second", "sum", "head"]
    place = {call.layer: index for index, call in enumerate(calls)}
    assert calls[place["sum"]].reads == {place["stem"], place["second"]}
    assert calls[place["first"]].reads == {place["stem"]}
    np.testing.assert_array_equal(calls[-1].outputs[0], nested(X))
    assert not any("call" in vars(layer) for layer in nested.layers)


def test_the_first_layer_with_nan_is_named(nested: Any) -> None:
    assert first_not_finite(nested, {"x": X}) is None
    assert first_not_finite(nested, X) is None
    assert first_not_finite(nested, {"x": X * np.float32(np.inf)}) == "stem"
