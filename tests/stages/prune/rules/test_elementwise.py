"""Layers that treat each channel alone let channels go; those that mix them say so."""

import numpy as np
import pytest


def between(keras, layer, size=(6, 6, 3)):
    image = keras.Input(size, name="image")
    x = layer(keras.layers.Conv2D(6, 3, name="before")(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 2, name="after")(x))
    return keras.Model(image, keras.layers.Dense(3, name="head")(x))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ReLU", {"max_value": 6.0, "negative_slope": 0.1}),
        ("LeakyReLU", {}),
        ("ELU", {}),
        ("ThresholdedReLU", {"theta": 0.1}),
        ("Activation", {"activation": "hard_sigmoid"}),
        ("Activation", {"activation": "swish"}),
        ("Softmax", {"axis": 1}),
        ("Dropout", {"rate": 0.5}),
        ("Dropout", {"rate": 0.5, "noise_shape": (None, 1, 1, None)}),
        ("SpatialDropout2D", {"rate": 0.5}),
        ("AlphaDropout", {"rate": 0.5}),
        ("GaussianNoise", {"stddev": 0.1}),
        ("GaussianDropout", {"rate": 0.1}),
        ("ActivityRegularization", {"l2": 0.1}),
        ("Rescaling", {"scale": 0.5, "offset": 0.25}),
    ],
)
def test_passes_channels_on(keras, cut, kind, settings):
    result = cut(between(keras, getattr(keras.layers, kind)(**settings)))
    assert result.pruned.get_layer("before").filters < 6


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("Softmax", {"name": "x"}, "x: softmax across channels"),
        ("Softmax", {"name": "x", "axis": [1, -1]}, "x: softmax across channels"),
        ("Activation", {"activation": "softmax", "name": "x"}, "x: softmax across channels"),
        ("LayerNormalization", {"name": "x"}, "x: normalises across channels"),
        ("UnitNormalization", {"name": "x"}, "x: normalises across channels"),
        (
            "Dropout",
            {"rate": 0.1, "noise_shape": (None, 1, 1, 6), "name": "x"},
            "x: dropout with a noise shape of fixed size",
        ),
        ("Rescaling", {"scale": [0.5] * 6, "name": "x"}, "x: rescaling by a value for each channel"),
        (
            "LocallyConnected2D",
            {"filters": 4, "kernel_size": 2, "name": "x"},
            "x: unknown layer kind LocallyConnected2D",
        ),
    ],
)
def test_freezes_what_it_mixes_and_nothing_else(keras, cut, groups, kind, settings, reason):
    model = between(keras, getattr(keras.layers, kind)(**settings))
    found = groups(model)
    assert found["before"] == [reason]
    assert found["after"] == 4
    assert cut(model).pruned.get_layer("before").filters == 6


def test_an_unknown_activation_freezes(keras, groups):
    assert groups(between(keras, keras.layers.Activation(abs, name="x")))["before"] == ["x: unknown activation abs"]


def test_a_nested_model_is_kept_whole(keras, cut, groups):
    inner_input = keras.Input((4, 4, 6))
    inner = keras.Model(inner_input, keras.layers.Conv2D(6, 1, name="inside")(inner_input), name="inner")
    model = between(keras, inner)
    assert groups(model)["before"] == ["inner: nested model"]
    pruned = cut(model).pruned
    np.testing.assert_array_equal(pruned.get_layer("inner").get_weights()[0], inner.get_weights()[0])
