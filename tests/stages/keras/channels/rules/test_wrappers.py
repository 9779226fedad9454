"""Check that a layer at each time step is the layer, with one more axis."""

import pytest


def clip_net(keras, inner):
    clip = keras.Input((3, 6, 6, 2), name="clip")
    x = keras.layers.TimeDistributed(keras.layers.Conv2D(6, 3, name="inside"), name="before")(clip)
    x = keras.layers.TimeDistributed(inner, name="middle")(x)
    if len(x.shape) > 3:
        x = keras.layers.TimeDistributed(keras.layers.GlobalMaxPooling2D())(x)
    x = keras.layers.LSTM(4, name="cells")(x)
    return keras.Model(clip, keras.layers.Dense(2, name="head")(x))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Conv2D", {"filters": 5, "kernel_size": 2, "activation": "relu"}),
        ("SeparableConv2D", {"filters": 5, "kernel_size": 2}),
        ("DepthwiseConv2D", {"kernel_size": 2, "depth_multiplier": 2}),
        ("BatchNormalization", {}),
        ("Rescaling", {"scale": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}),
        ("MaxPooling2D", {}),
        ("Flatten", {}),
        ("Dense", {"units": 5}),
        ("Reshape", {"target_shape": (16, 6)}),
    ],
)
def test_each_step(keras, cut, kind, settings):
    model = clip_net(keras, getattr(keras.layers, kind)(**settings)) if kind != "Reshape" else None
    if model is None:
        clip = keras.Input((3, 4, 4, 2), name="clip")
        x = keras.layers.TimeDistributed(keras.layers.Conv2D(6, 1), name="before")(clip)
        x = keras.layers.TimeDistributed(keras.layers.Reshape(**settings))(x)
        x = keras.layers.TimeDistributed(keras.layers.GlobalMaxPooling1D())(x)
        model = keras.Model(clip, keras.layers.Dense(2)(keras.layers.GRU(4)(x)))
    result = cut(model)
    before = result.pruned.get_layer("before")
    assert before.layer.filters == before.output_shape[-1] < 6
    assert result.graph.groups[1].name == "before"


def test_a_model_at_each_step_freezes(keras, cut, groups):
    inner = keras.Sequential([keras.Input((4, 4, 6)), keras.layers.Conv2D(5, 1)], name="inner")
    model = clip_net(keras, inner)
    assert groups(model)["before"] == ["middle: unknown layer kind Sequential at each step"]
    assert cut(model).pruned.get_layer("cells").units < 4
