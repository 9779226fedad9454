import numpy as np
import pytest

from pipeline.data import Preprocess, Split
from pipeline.errors import DataError, PreconditionError
from stages.keras.normal_form import decode_model
from stages.keras.tensorflow import import_keras
from stages.recalibrate.stage import RecalibrateConfig, RecalibrateStage

SAMPLES = 3.0 + 2.0 * np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)


def test_the_stage_makes_a_model_that_loads(model, make_context, split):
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


def test_a_sample_that_is_no_number_is_named(model, make_context, split):
    broken = SAMPLES.copy()
    broken[21, 4] = np.nan
    context = make_context(RecalibrateConfig(), splits={"train": split(broken)})
    context.inputs = {"model": context.write_model(model)}
    with pytest.raises(DataError, match="sample 21 of the train split holds NaN"):
        RecalibrateStage().run(context)


def test_a_model_without_batch_normalization_is_told(make_context, split):
    keras = import_keras()
    vector = keras.Input((5,))
    plain = keras.Model(vector, keras.layers.Dense(2)(vector))
    context = make_context(RecalibrateConfig(), splits={"train": split(SAMPLES)})
    context.inputs = {"model": context.write_model(plain)}
    with pytest.raises(PreconditionError, match="no batch normalization"):
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
