import numpy as np
import pytest

from stages.keras.equalizing.draft import Draft
from stages.keras.equalizing.normalizations import settle_normalizations
from stages.keras.regression.running import Network

X = np.random.default_rng(0).standard_normal((4, 9, 9, 2)).astype(np.float32)


def settled(keras, build, scales=(2.0, -0.5, 0.0), kept=frozenset()):
    layers, image = keras.layers, keras.Input((9, 9, 2))
    model = keras.Model(image, build(layers, layers.Conv2D(3, 3, activation="relu", name="maker")(image)))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if "Normalization" in type(layer).__name__:
            layer.set_weights([np.array(scales), *rng.normal(size=(2, 3)), rng.uniform(0.5, 2, 3)])
    draft = Draft(model)
    notes = settle_normalizations(Network.of(model), draft, kept)
    made = draft.built()
    np.testing.assert_allclose(made(X), model(X), rtol=1e-4, atol=1e-5)
    return made, notes


def kind(model, name="bn"):
    return type(model.get_layer(name)).__name__


def test_its_parts_go_into_the_kernels_around_it(keras):
    def build(layers, x):
        x = layers.AveragePooling2D()(layers.BatchNormalization(name="bn")(x))
        return layers.Conv2D(2, 2, name="reader", use_bias=False)(x)

    made, notes = settled(keras, build)
    assert kind(made) == "Activation"
    assert notes == ["bn: its scale goes into the kernels before it, its offset into those after it"]
    assert made.get_layer("reader").use_bias
    assert not made.get_layer("reader").kernel.numpy()[:, :, 2].any()  # the channel whose scale is zero


@pytest.mark.parametrize(
    "stop",
    [
        lambda layers, x: layers.Conv2D(2, 3, padding="same")(x),
        lambda layers, x: layers.Conv2D(2, 3)(layers.MaxPooling2D()(x)),  # of negative scales
        lambda layers, x: layers.Conv2D(2, 1)(layers.Activation("tanh")(x)),
        lambda layers, x: x,
    ],
    ids=["padding", "maximum", "not linear", "output"],
)
def test_it_becomes_a_depthwise_convolution_where_they_cannot(keras, stop):
    made, notes = settled(keras, lambda layers, x: stop(layers, layers.BatchNormalization(name="bn")(x)))
    assert kind(made) == "DepthwiseConv2D"
    assert notes == ["bn: a depthwise convolution, with a scale for each channel"]


def test_positive_scales_go_through_maxima(keras):
    def build(layers, x):
        return layers.Conv2D(2, 3)(layers.MaxPooling2D()(layers.BatchNormalization(name="bn")(x)))

    assert kind(settled(keras, build, scales=(2.0, 0.5, 1.0))[0]) == "Activation"


def test_what_others_read_is_not_scaled(keras):
    def build(layers, x):
        normal = layers.Conv2D(2, 1)(layers.BatchNormalization(name="bn")(x))
        return layers.Add()([normal, layers.Conv2D(2, 1)(x)])

    assert kind(settled(keras, build)[0]) == "DepthwiseConv2D"


def test_one_after_the_other(keras):
    def build(layers, x):
        x = layers.BatchNormalization(name="first")(layers.LeakyReLU()(layers.BatchNormalization(name="bn")(x)))
        return layers.Dense(2)(layers.Flatten()(x))

    made, _ = settled(keras, build, scales=(2.0, -0.5, 1.5))
    assert [kind(made, name) for name in ("bn", "first")] == ["DepthwiseConv2D", "Activation"]


def test_without_height_and_width_it_stays_and_so_does_what_is_kept(keras):
    def build(layers, x):
        x = layers.BatchNormalization(name="vector")(
            layers.GlobalMaxPooling2D()(layers.BatchNormalization(name="bn")(x))
        )
        return layers.Softmax()(x)

    made, notes = settled(keras, build, kept=frozenset({"bn"}))
    assert [kind(made, name) for name in ("bn", "vector")] == ["BatchNormalization"] * 2
    assert notes == []


def test_a_layer_that_renormalizes_is_left_as_it_is(keras):
    image = keras.Input((9, 9, 2))
    x = keras.layers.Conv2D(3, 3, activation="relu", name="maker")(image)
    model = keras.Model(image, keras.layers.Conv2D(2, 1)(keras.layers.BatchNormalization(renorm=True, name="bn")(x)))
    draft = Draft(model)
    assert settle_normalizations(Network.of(model), draft, frozenset()) == []
    assert draft.built() is model
