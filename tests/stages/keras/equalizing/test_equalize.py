import numpy as np
import pytest

from stages.keras.equalizing import equalize
from stages.keras.equalizing.equalize import equalized
from stages.keras.tensorflow import import_keras

X = np.random.default_rng(0).standard_normal((40, 10, 10, 3)).astype(np.float32)


def network(name="conv"):
    """Return Conv → ReLU → normalization twice, behind them a clip that nothing reaches."""
    keras = import_keras()
    layers, image = keras.layers, keras.Input((10, 10, 3))
    x = layers.BatchNormalization(name="folded")(layers.Conv2D(4, 3, name=name)(image))
    x = layers.BatchNormalization(name="alone")(layers.ReLU(600.0, name="clip")(x))
    x = layers.Dense(3, activation="softmax", name="head")(layers.Flatten()(x))
    model = keras.Model(image, x)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if "Normalization" in type(layer).__name__:
            layer.set_weights([rng.lognormal(0, 1.5, 4), *rng.normal(size=(2, 4)), rng.uniform(0.5, 2, 4)])
    return model


def test_all_steps_and_the_same_outputs(keras):
    model = network()
    made = equalized(model, [X])
    assert [type(made.model.get_layer(name)).__name__ for name in ("folded", "alone")] == ["Activation"] * 2
    assert made.model.get_layer("clip").max_value is None
    assert [note.split(":")[0] for note in made.notes][:2] == ["clip", "alone"]
    assert made.left_out == ()
    assert 0 < made.difference < 1e-5
    np.testing.assert_allclose(made.model(X), model(X), atol=1e-5)
    assert model.get_layer("clip").max_value == 600  # as it was


def test_layers_that_stay_in_float_are_left_alone(keras):
    model = network()
    made = equalized(model, [X], kept=["alone", "clip", "conv"])
    assert made.model is model
    assert made.notes == ()


def test_folding_alone_is_left_to_the_converters(keras, randomize):
    image = keras.Input((10, 10, 3))
    made = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image))
    model = randomize(keras.Model(image, keras.layers.Softmax()(made)))
    assert equalized(model, [X]).model is model


def test_networks_without_samples_enough_and_of_fixed_batches(keras):
    keras_image = keras.Input(batch_shape=(4, 10, 10, 3))
    model = network()
    fixed = keras.Model(keras_image, model(keras_image))
    made = equalized(fixed, [X[:6]])
    assert made.model.input_shape == (4, 10, 10, 3)
    np.testing.assert_allclose(made.model(X[:4]), model(X[:4]), atol=1e-5)


def test_a_step_that_changes_outputs_is_left_out_and_told(keras, monkeypatch):
    monkeypatch.setattr(equalize, "settle_normalizations", lambda network, draft, kept: wrongly(draft))

    def wrongly(draft):
        draft.of("head").shift_outputs(np.array([1.0, 0, 0]))
        return ["alone: wrong"]

    model = network()
    made = equalized(model, [X])
    (left_out,) = made.left_out
    assert left_out.startswith("alone: wrong: outputs would change by")
    np.testing.assert_allclose(made.model(X), model(X), atol=1e-5)


def test_a_limit_that_only_a_late_sample_comes_near_stays(keras):
    late = X.copy()
    late[35] *= 300  # of 40, behind those that outputs are compared on
    for samples, opened in ((X, True), (late, False)):
        made = equalized(network(), [samples])
        assert any(note.startswith("clip:") for note in made.notes) == opened
        assert (made.model.get_layer("clip").max_value is None) == opened


def test_nested_models_are_taken_apart(keras):
    inner, image = network("inner"), keras.Input((10, 10, 3))
    model = keras.Model(image, keras.layers.Dense(2, name="end")(inner(image)))
    made = equalized(model, [X])
    assert "inner" in [layer.name for layer in made.model.layers]
    np.testing.assert_allclose(made.model(X), model(X), atol=1e-5)
    assert pytest.approx(0, abs=1e-5) == made.difference


def test_a_channel_that_few_samples_use_is_seen_in_all_of_them(keras):
    vector = keras.Input((3,))
    x = keras.layers.Dense(3, activation="relu", name="read", kernel_initializer="identity")(vector)
    model = keras.Model(vector, keras.layers.Dense(2, name="reader")(x))
    model.get_layer("reader").set_weights([np.array([[1.0, 2], [3, 1], [0.1, 0.1]]), np.zeros(2)])
    samples = np.random.default_rng(0).uniform(0, 1, (300, 3)) * [1, 1, 0]
    samples[280, 2] = 30
    made = equalized(model, [samples.astype(np.float32)])
    kernel = np.diag(made.model.get_layer("read").kernel.numpy())
    assert kernel[2] == 1
    assert (kernel[:2] > 1).all()
