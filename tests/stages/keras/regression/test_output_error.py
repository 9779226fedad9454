import numpy as np
import pytest

from stages.keras.regression.output_error import OutputError
from stages.keras.regression.samples import Samples


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((60, 6, 6, 2)).astype(np.float32)


@pytest.fixture
def small(keras, randomize, cut):
    """Return a network that ends in a softmax, as `model` and with some channels `pruned`."""
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    x = keras.layers.Dense(3, activation="softmax", name="head")(keras.layers.GlobalAveragePooling2D()(x))
    return cut(randomize(keras.Model(image, x)))


def samples_of(images, size=7):
    return Samples(np.arange(len(images)), size, lambda places: [images[places]])


def before_softmax(model, keras, images):
    head = model.get_layer("head")
    features = keras.Model(model.inputs, head.input)(images, training=False).numpy()
    return features.astype(np.float64) @ head.kernel.numpy() + head.bias.numpy()


def test_the_error_is_that_before_the_softmax_on_held_out_samples(small, images, keras, tmp_path):
    error = OutputError.against(small.model, samples_of(images), tmp_path)
    source, pruned = (before_softmax(m, keras, images)[4::5] for m in (small.model, small.pruned))
    expected = np.square(source - pruned).sum(axis=1).mean() / source.var(axis=0).sum()
    assert error.of(small.pruned) == pytest.approx(expected, rel=1e-4)
    assert error.of(small.model) == 0
    assert small.model.get_layer("head").activation is keras.activations.softmax


def test_some_batches(small, images, keras, tmp_path):
    error = OutputError.against(small.model, samples_of(images), tmp_path)
    source, pruned = (before_softmax(m, keras, images)[4::5][:7] for m in (small.model, small.pruned))
    scale = before_softmax(small.model, keras, images)[4::5].var(axis=0).sum()
    assert error.of(small.pruned, 1) == pytest.approx(np.square(source - pruned).sum(axis=1).mean() / scale, rel=1e-4)
    assert error.of(small.pruned, 99) == error.of(small.pruned)


def test_the_mean_over_outputs_and_constant_ones(keras, tmp_path):
    vector = keras.Input((3,))
    layers = keras.layers
    outputs = [layers.Dense(2, name="a")(vector), layers.Dense(4, name="b")(vector * 0.0)]
    model = keras.Model(vector, outputs)
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    error = OutputError.against(model, samples_of(x), tmp_path)
    assert error.scales[1] == 1.0  # there is no variance to be relative to
    wanted = model.get_layer("a")(x[4::5]).numpy()
    model.get_layer("a").bias.assign([1.0, 0.0])
    model.get_layer("b").bias.assign([0.0, 2.0, 0.0, 0.0])
    assert error.of(model) == pytest.approx((1 / wanted.var(axis=0).sum() + 4.0) / 2, rel=1e-4)


def test_text_is_not_compared(keras, tmp_path):
    from stages.keras.tensorflow import import_tensorflow

    vector = keras.Input((3,))
    x = keras.layers.Dense(2, name="a")(vector)
    model = keras.Model(vector, [x, import_tensorflow().strings.as_string(x)])
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    error = OutputError.against(model, samples_of(x), tmp_path)
    assert len(error.scales) == 1
    assert error.of(model) == 0


def test_outputs_of_a_function_are_compared_as_the_model_s(small, images, keras, tmp_path):
    error = OutputError.against(small.model, samples_of(images), tmp_path)
    head = small.model.get_layer("head")

    def doubled(x):
        return 2 * (keras.Model(small.model.inputs, head.input)(x, training=False) @ head.kernel + head.bias)

    logits = before_softmax(small.model, keras, images)[4::5]
    expected = np.square(logits).sum(axis=1).mean() / logits.var(axis=0).sum()
    assert error.of_outputs(doubled) == pytest.approx(expected, rel=1e-4)
