import numpy as np
import pytest

from stages.keras.regression.offsets import Offset, offset_of
from stages.keras.regression.running import Network
from stages.keras.tensorflow import import_keras

SHAPE = (4, 4, 2)


def after(*between, **settings):
    """Return a network of a convolution named `conv`, layers behind it, and one that reads the last of them."""
    layers = import_keras().layers
    image = import_keras().Input(SHAPE)
    x = layers.Conv2D(3, 1, **{"name": "conv", "use_bias": False} | settings)(image)
    for layer in between:
        x = layer(x)
    return import_keras().Model(image, layers.Dense(2)(layers.Flatten()(x)))


def found(model):
    return offset_of(Network.of(model), model.get_layer("conv"))


def norm(**settings):
    return import_keras().layers.BatchNormalization(**{"name": "norm"} | settings)


def test_a_bias_takes_the_offset():
    model = after(norm(), use_bias=True)
    assert found(model) == Offset(model.get_layer("conv"))
    assert found(model).variable is model.get_layer("conv").bias


@pytest.mark.parametrize(
    "between",
    [
        (),
        ("MaxPooling2D",),
        ("AveragePooling2D", "Dropout"),
        ("UpSampling2D", "SpatialDropout2D", "Cropping2D", "GaussianNoise"),
    ],
)
def test_a_normalization_takes_it_across_what_passes_constants_on(between, randomize):
    layers = import_keras().layers
    settings = {"Dropout": {"rate": 0.5}, "SpatialDropout2D": {"rate": 0.5}, "GaussianNoise": {"stddev": 1.0}}
    settings |= {"AveragePooling2D": {"padding": "same", "pool_size": 3}}
    passing = [getattr(layers, name)(**settings.get(name, {})) for name in between]
    model = randomize(after(*passing, norm()))
    place, offset = found(model), np.array([0.5, -1.0, 2.0])
    assert place == Offset(model.get_layer("conv"), model.get_layer("norm"))
    assert place.variable is model.get_layer("norm").beta
    ends = import_keras().Model(model.inputs, model.get_layer("norm").output)
    biased = import_keras().models.clone_model(after(*passing, norm(), use_bias=True))
    kernel, statistics = model.get_layer("conv").get_weights(), model.get_layer("norm").get_weights()
    biased.get_layer("conv").set_weights([*kernel, offset])
    biased.get_layer("norm").set_weights(statistics)
    images = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float32)
    wanted = import_keras().Model(biased.inputs, biased.get_layer("norm").output)(images, training=False)
    before = ends(images, training=False).numpy()
    place.add(offset)
    np.testing.assert_allclose(ends(images, training=False), wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(before - wanted).max() > 0.1


def test_a_normalization_without_a_scale_takes_it_too(randomize):
    model = randomize(after(norm(scale=False)))
    layer = model.get_layer("norm")
    before, offset = layer.beta.numpy(), np.array([1.0, 2.0, 3.0])
    found(model).add(offset)
    np.testing.assert_allclose(layer.beta - before, offset / np.sqrt(layer.moving_variance + layer.epsilon), rtol=1e-5)


def test_a_bias_grows_by_the_offset(randomize):
    model = randomize(after(use_bias=True, activation="relu"))
    before = model.get_layer("conv").bias.numpy()
    found(model).add(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(model.get_layer("conv").bias - before, [1, 2, 3], rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda layers: after(),
        lambda layers: after(layers.ReLU(), norm()),
        lambda layers: after(layers.ZeroPadding2D(), norm()),
        lambda layers: after(norm(center=False)),
        lambda layers: after(norm(axis=1)),
        lambda layers: after(norm(), activation="relu"),
        lambda layers: after(layers.GlobalAveragePooling2D(keepdims=True), norm()),
        lambda layers: after(use_bias=True, bias_constraint="non_neg"),
        lambda layers: after(norm(beta_constraint="non_neg")),
    ],
    ids=["nothing", "relu", "padding", "no beta", "other axis", "activation", "dense", "bound bias", "bound beta"],
)
def test_where_nothing_takes_it(make):
    assert found(make(import_keras().layers)) is None


def joined(build):
    layers = import_keras().layers
    image = import_keras().Input(SHAPE)
    conv = layers.Conv2D(3, 1, name="conv", use_bias=False)
    return import_keras().Model(image, build(layers, image, conv))


def test_several_readers_a_sum_and_shared_layers_take_none():
    bn = norm()
    assert found(joined(lambda layers, image, conv: norm()(layers.Add()([conv(image), image[..., :1]])))) is None
    assert found(joined(lambda layers, image, conv: [norm()(x := conv(image)), layers.ReLU()(x)])) is None
    assert found(joined(lambda layers, image, conv: [norm()(x := conv(image)), x])) is None  # itself an output
    assert found(joined(lambda layers, image, conv: bn(conv(image)) + bn(layers.Conv2D(3, 1)(image)))) is None
    assert found(joined(lambda layers, image, conv: norm()(conv(image)) + conv(image + 1.0))) is None
    assert found(joined(lambda layers, image, conv: norm()(conv(image)))) is not None
