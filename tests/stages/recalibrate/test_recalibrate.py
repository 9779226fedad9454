import numpy as np
import pytest

from pipeline.data import Preprocess, Split
from pipeline.errors import DataError, PreconditionError
from stages.keras.normal_form import decode_model
from stages.keras.tensorflow import import_keras
from stages.recalibrate.stage import RecalibrateConfig, RecalibrateStage
from stages.recalibrate.statistics import recalibrate

SAMPLES = 3.0 + 2.0 * np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)


def split(x, name="train"):
    return Split(name, "sha256:0", x, np.zeros(len(x), np.int64), Preprocess())


@pytest.fixture
def model():
    """Build two normalizations, the second not trainable, with dropout and noise around them."""
    layers = import_keras().layers
    vector = import_keras().Input((5,))
    x = layers.Dropout(0.9)(layers.GaussianNoise(10.0)(vector))
    x = layers.BatchNormalization(name="first")(x)
    x = layers.Dropout(0.5)(layers.Dense(4, name="dense")(x))
    return import_keras().Model(vector, layers.BatchNormalization(name="second", trainable=False)(x))


def test_moving_statistics_become_those_of_the_samples_without_dropout_or_noise(model):
    shift = recalibrate(model, [SAMPLES])
    first, second = model.get_layer("first"), model.get_layer("second")
    np.testing.assert_allclose(first.moving_mean, SAMPLES.mean(0), rtol=1e-5)
    np.testing.assert_allclose(first.moving_variance, SAMPLES.var(0), rtol=1e-4)
    read = (SAMPLES - SAMPLES.mean(0)) / np.sqrt(SAMPLES.var(0) + 1e-3) @ model.get_layer("dense").kernel.numpy()
    np.testing.assert_allclose(second.moving_mean, read.mean(0), atol=1e-5)
    np.testing.assert_allclose(second.moving_variance, read.var(0), rtol=1e-4)
    expected = np.concatenate([np.abs(SAMPLES.mean(0)), np.abs(read.mean(0))]).mean() / np.sqrt(1.001)
    assert shift == pytest.approx(expected, rel=1e-4)


def test_batches_of_other_sizes_count_by_their_samples(model):
    recalibrate(model, [SAMPLES[:30], SAMPLES[30:]])
    np.testing.assert_allclose(model.get_layer("first").moving_mean, SAMPLES.mean(0), rtol=1e-5)


def test_only_the_statistics_change(model):
    before = {weight.name: weight.numpy() for weight in model.weights}
    settings = [(layer.trainable, layer.get_config()) for layer in model.layers]
    recalibrate(model, [SAMPLES])
    changed = {weight.name for weight in model.weights if (weight.numpy() != before[weight.name]).any()}
    assert all("moving_" in name for name in changed)
    assert len(changed) == 4
    assert settings == [(layer.trainable, layer.get_config()) for layer in model.layers]
    once = model(SAMPLES, training=False).numpy()
    statistics = model.get_layer("first").moving_mean.numpy()
    model(SAMPLES + 1, training=False)
    np.testing.assert_array_equal(model.get_layer("first").moving_mean, statistics)
    np.testing.assert_array_equal(model(SAMPLES, training=False), once)


def test_a_failure_leaves_layers_as_they_were(model):
    def batches():
        yield SAMPLES
        raise DataError("cut short")

    with pytest.raises(DataError):
        recalibrate(model, batches())
    assert model.get_layer("first").momentum == 0.99
    assert "call" not in vars(model.get_layer("first"))
    assert not model.get_layer("second").trainable


def test_the_stage_makes_a_model_that_loads(model, make_context):
    context = make_context(RecalibrateConfig(samples=30, batch=16), splits={"train": split(SAMPLES)}, seed=3)
    context.inputs = {"model": context.write_model(model)}
    stage = RecalibrateStage()
    assert stage.splits(context.config) == ("train",)
    result = stage.run(context)
    stage.ensures(context, result)
    again = stage.run(context)
    assert again.outputs[0].digest == result.outputs[0].digest != context.inputs["model"].digest
    assert result.metrics["batch_normalisations"] == 2
    assert context.progress[:2] == [(16, 30), (30, 30)]
    context.inputs = {"model": result.outputs[0]}
    loaded = decode_model(context.read("model", "model.keras"))
    picked = SAMPLES[np.random.default_rng(3).permutation(40)[:30]]
    np.testing.assert_allclose(loaded.get_layer("first").moving_mean, picked.mean(0), rtol=1e-5)


def test_a_sample_that_is_no_number_is_named(model, make_context):
    broken = SAMPLES.copy()
    broken[21, 4] = np.nan
    context = make_context(RecalibrateConfig(), splits={"train": split(broken)})
    context.inputs = {"model": context.write_model(model)}
    with pytest.raises(DataError, match="sample 21 of the train split holds NaN"):
        RecalibrateStage().run(context)


def test_a_model_without_batch_normalisation_is_told(make_context):
    keras = import_keras()
    vector = keras.Input((5,))
    plain = keras.Model(vector, keras.layers.Dense(2)(vector))
    context = make_context(RecalibrateConfig(), splits={"train": split(SAMPLES)})
    context.inputs = {"model": context.write_model(plain)}
    with pytest.raises(PreconditionError, match="no batch normalisation"):
        RecalibrateStage().run(context)


def test_several_inputs_and_no_labels(make_context):
    layers = import_keras().layers
    a, b = import_keras().Input((5,), name="a"), import_keras().Input((2,), name="b")
    joined = layers.BatchNormalization(name="norm")(layers.Concatenate(name="join")([a, b]))
    context = make_context(RecalibrateConfig(batch=16))
    context.inputs = {"model": context.write_model(import_keras().Model([a, b], joined))}
    x = {"b": SAMPLES[:, :2] * 3, "a": SAMPLES}
    context.splits = {"train": Split("train", "sha256:0", x, None, Preprocess(), "unlabelled")}
    (artifact,) = RecalibrateStage().run(context).outputs
    stored = decode_model(context.folder / artifact.files[0].digest.removeprefix("sha256:"))
    expected = np.concatenate([SAMPLES, SAMPLES[:, :2] * 3], axis=1).mean(0)
    np.testing.assert_allclose(stored.get_layer("norm").moving_mean, expected, rtol=1e-5)
