"""Test layers that scale or shift each channel by its own number."""

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras


def around(keras, layer, size=(6, 6, 3)):
    image = keras.Input(size, name="image")
    x = layer(keras.layers.Conv2D(6, 3, name="before")(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 2, name="after")(x))
    return keras.Model(image, keras.layers.Dense(3, name="head")(x))


SCALES = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("BatchNormalization", {}),
        ("LayerNormalization", {"axis": 1}),
        ("LayerNormalization", {"axis": [1, 2]}),
        ("UnitNormalization", {"axis": 2}),
        ("PReLU", {}),
        ("PReLU", {"shared_axes": [1, 2]}),
        ("PReLU", {"shared_axes": [1, 2, 3]}),
        ("Rescaling", {"scale": 0.5, "offset": 0.25}),
        ("Rescaling", {"scale": SCALES, "offset": 0.25}),
        ("Rescaling", {"scale": [2.0], "offset": SCALES}),
        ("Normalization", {"mean": SCALES, "variance": SCALES}),
        ("Normalization", {"mean": 2.0, "variance": SCALES}),
        ("Normalization", {"axis": None, "mean": 2.0, "variance": 3.0}),
        ("Normalization", {"axis": (1, 3), "mean": [SCALES] * 4, "variance": SCALES}),
    ],
)
def test_values_go_with_their_channels(keras, cut, kind, settings):
    result = cut(around(keras, getattr(keras.layers, kind)(name="middle", **settings)))
    assert result.pruned.get_layer("before").filters < 6


@pytest.mark.parametrize("axis", [-1, (1, 3), 2])
def test_adapted_statistics_go_with_their_channels(keras, cut, axis):
    layer = keras.layers.Normalization(axis=axis, name="middle")
    layer.adapt(np.random.default_rng(0).normal(3, 2, (8, 4, 4, 6)))
    pruned = cut(around(keras, layer)).pruned
    assert pruned.get_layer("before").filters < 6
    if axis == -1:
        assert pruned.get_layer("middle").mean.shape[-1] == pruned.get_layer("before").filters


def test_values_on_another_axis_freeze(keras, groups):
    first = keras.layers.Permute((3, 1, 2))
    image = keras.Input((6, 6, 3), name="image")
    x = keras.layers.Rescaling(SCALES, name="scale")(first(keras.layers.Conv2D(5, 1, name="before")(image)))
    x = keras.layers.Permute((2, 3, 1))(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2)(x))
    assert groups(model)["before"] == 5  # one value per column: the same for every channel
    x = keras.layers.BatchNormalization(name="norm")(first(keras.layers.Conv2D(5, 1, name="before")(image)))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    assert groups(model)["before"] == ["norm: batch normalization along another axis than the channels'"]


def test_convnexts_own_layers(keras, cut):
    from tf_keras.src.applications.convnext import LayerScale, StochasticDepth

    class Chain:
        def __call__(self, x):
            return StochasticDepth(0.2)(LayerScale(0.1, 6, name="scale")(x))

    pruned = cut(around(import_keras(), Chain())).pruned
    assert pruned.get_layer("scale").projection_dim == pruned.get_layer("before").filters < 6
