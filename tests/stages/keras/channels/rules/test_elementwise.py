"""Check that layers which treat each channel alone let channels go, and those that mix them refuse."""

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
        ("RandomFlip", {}),
        ("RandomContrast", {"factor": 0.1}),
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
        ("LayerNormalization", {"name": "x"}, "x: normalizes across channels"),
        ("UnitNormalization", {"name": "x"}, "x: normalizes across channels"),
        (
            "Dropout",
            {"rate": 0.1, "noise_shape": (None, 1, 1, 6), "name": "x"},
            "x: dropout with a noise shape of fixed size",
        ),
        ("GroupNormalization", {"groups": 3, "name": "x"}, "x: normalizes across channels"),
        ("Masking", {"name": "x"}, "x: masks by what all channels hold together"),
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


def test_attention_freezes(keras, cut, groups):
    signal = keras.Input((6, 3))
    x = keras.layers.Conv1D(6, 1, name="before")(signal)
    y = keras.layers.MultiHeadAttention(2, 4, name="attend")(x, x)
    x = keras.layers.Conv1D(5, 1, name="other")(signal)
    y = keras.layers.Concatenate()([y, keras.layers.Attention(name="plain")([x, x])])
    model = keras.Model(signal, keras.layers.Dense(2)(keras.layers.Dense(4, name="after")(y)))
    found = groups(model)
    assert (found["before"], found["other"]) == (["attend: attention"], ["plain: attention"])
    assert found["after"] == 4
    cut(model)


def test_a_product_without_weights_freezes(keras, cut, groups):
    vector = keras.Input((3,))
    pair = [keras.layers.Dense(6, name=name)(vector) for name in ("a", "b")]
    x = keras.layers.Dot(1, name="dot")(pair)
    model = keras.Model(vector, keras.layers.Dense(2)(keras.layers.Dense(4, name="after")(x)))
    found = groups(model)
    assert found["a"] == found["b"] == ["dot: multiplies and sums its inputs"]
    cut(model)
