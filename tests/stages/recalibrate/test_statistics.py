import numpy as np
import pytest

from pipeline.errors import DataError
from stages.keras.tensorflow import import_keras
from stages.recalibrate.statistics import recalibrate

SAMPLES = 3.0 + 2.0 * np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)


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


def test_the_calls_of_a_shared_layer_count_alike():
    keras = import_keras()
    one, other = keras.Input((5,)), keras.Input((5,))
    shared = keras.layers.BatchNormalization(name="shared")
    model = keras.Model([one, other], keras.layers.Add()([shared(one), shared(other)]))
    batches = [[SAMPLES[:30], SAMPLES[:30] + 4], [SAMPLES[30:], SAMPLES[30:] + 4]]
    recalibrate(model, batches)
    np.testing.assert_allclose(shared.moving_mean, SAMPLES.mean(0) + 2, rtol=1e-5)
    expected = 0.75 * SAMPLES[:30].var(0) + 0.25 * SAMPLES[30:].var(0)
    np.testing.assert_allclose(shared.moving_variance, expected, rtol=1e-4)


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
