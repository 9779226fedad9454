import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.keras.regression import samples
from stages.keras.stored import state_of
from stages.reconstruct.config import ReconstructConfig
from stages.reconstruct.reconstruction import reconstruct


def taking(*arrays):
    return lambda places: [array[places] for array in arrays]


def run(case, folder, *arrays, seed=0, **settings):
    config = ReconstructConfig(**settings)
    return reconstruct(case.pruned, case.source, case.kept, len(arrays[0]), taking(*arrays), config, seed, folder)


def test_outputs_come_nearer_and_the_source_stays_as_it_is(small, images, tmp_path):
    before = state_of(small.source)
    first = np.square(small.source(images) - small.pruned(images)).mean()
    result = run(small, tmp_path, images)
    assert result.model is small.pruned
    report = result.report
    assert report.output_error_after < 0.3 * report.output_error_before
    assert np.square(small.source(images) - small.pruned(images)).mean() < 0.5 * first
    assert state_of(small.source) == before
    assert (report.samples, report.held_out, report.not_fitted) == (60, 12, {})
    assert [fit.layer for fit in report.layers] == ["stem", "separable", "conv", "head"]


def test_it_depends_on_the_seed_alone(small, images, tmp_path):
    weights = small.pruned.get_weights()
    first = run(small, tmp_path / "1", images, positions=4).report.to_json()
    small.pruned.set_weights(weights)
    assert run(small, tmp_path / "2", images, positions=4).report.to_json() == first
    small.pruned.set_weights(weights)
    assert run(small, tmp_path / "3", images, positions=4, seed=1).report.to_json() != first


def test_some_samples_of_many(small, images, tmp_path):
    seen = set()

    def take(places):
        seen.update(places.tolist())
        return [images[places]]

    report = reconstruct(
        small.pruned, small.source, small.kept, 60, take, ReconstructConfig(samples=20), 5, tmp_path
    ).report
    assert (report.samples, report.held_out) == (20, 4)
    assert seen == set(np.random.default_rng(5).permutation(60)[:20].tolist())


def test_few_samples_are_refused_and_ten_are_enough(small, images, tmp_path):
    with pytest.raises(PreconditionError, match="9 samples are too few: 10 are needed") as caught:
        run(small, tmp_path, images[:9])
    assert caught.value.where == "reconstruct.data_split calibration"
    assert run(small, tmp_path, images[:10]).report.held_out == 2


def test_constant_inputs_and_dead_channels(small, images, tmp_path):
    small.source.get_layer("norm").gamma.assign([0.0] * 8)  # every channel is constant
    for model in (small.source, small.pruned):
        model.get_layer("conv").bias.assign(model.get_layer("conv").bias - 100)  # and dead
    report = run(small, tmp_path, np.ones_like(images)).report
    assert np.isfinite([report.output_error_before, report.output_error_after]).all()
    assert report.output_error_after <= report.output_error_before
    assert all(np.isfinite(weight).all() for weight in small.pruned.get_weights())


def test_batches_are_small_where_tensors_are_large(small, images, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "BATCH_BYTES", 6 * 6 * 8 * 4 * 7)  # seven samples of the largest
    sizes = set()

    def take(places):
        sizes.add(len(places))
        return [images[places]]

    reconstruct(small.pruned, small.source, small.kept, 60, take, ReconstructConfig(), 0, tmp_path)
    assert max(sizes) == 7


def test_training_in_between_is_compared_with_what_was_given(small, images, tmp_path):
    """The layers are fitted to what the source's normalizations expect, so that these are put back."""
    norm = small.pruned.get_layer("norm")
    values = norm.get_weights()
    norm.set_weights([value * 3 + 1 for value in values])
    result = run(small, tmp_path, images)
    for now, then in zip(
        (norm.gamma, norm.moving_mean, norm.moving_variance), np.take(values, [0, 2, 3], 0), strict=True
    ):
        np.testing.assert_array_equal(now, then)
    assert result.report.output_error_after < 0.3 * result.report.output_error_before


def nested(keras):
    layers, inside = keras.layers, keras.Input((4, 4, 4))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(inside)
    block = keras.Model(inside, layers.Conv2D(4, 1, name="second")(x), name="block")
    image = keras.Input((4, 4, 2))
    x = block(layers.Conv2D(4, 1, name="stem")(image))
    return keras.Model(image, layers.Dense(2, name="head")(layers.Flatten()(x)))


def several(keras):
    layers = keras.layers
    one, other = keras.Input((5,), name="one"), keras.Input((3,), name="other", dtype="int32")
    x = layers.Dense(8, activation="relu", name="first")(one)
    y = layers.Flatten()(layers.Embedding(9, 4, name="words")(other))
    x = layers.Dense(8, activation="relu", name="joined")(layers.Concatenate()([x, y]))
    outputs = [layers.Dense(2, activation="softmax", name="a")(x), layers.Dense(1, name="b")(x)]
    return keras.Model([one, other], outputs)


def free_sizes(keras):
    layers, image = keras.layers, keras.Input((None, None, 2))
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="first")(image)
    x = layers.Conv2D(8, 3, activation="relu", padding="same", name="second")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="head")(layers.GlobalMaxPooling2D()(x)))


@pytest.mark.parametrize("make", [nested, several, free_sizes])
def test_networks_of_several_shapes(make, cut_kept, keras, tmp_path):
    case, rng = cut_kept(make(keras)), np.random.default_rng(0)
    sizes = {"nested": [(4, 4, 2)], "several": [(5,), (3,)], "free_sizes": [(7, 9, 2)]}[make.__name__]
    arrays = [rng.integers(0, 9, (60, *size)).astype(np.float32) / (len(size) * 2 - 1) for size in sizes]
    report = run(case, tmp_path, *arrays).report
    assert report.output_error_after < 0.8 * report.output_error_before
    assert not report.not_fitted
    assert sum(fit.kept for fit in report.layers) >= 1


def test_a_closing_layer_comes_nearer_to_the_sources_probabilities(keras, small, images, tmp_path):
    """The divergence reported is the one of the finished models' outputs, by Keras' own measure."""
    for model in (small.source, small.pruned):
        model.get_layer("head").activation = keras.activations.softmax
    report = run(small, tmp_path, images).report
    head = report.layers[-1]
    held_out = images[np.random.default_rng(0).permutation(60)[4::5]]
    measured = keras.losses.KLDivergence()(small.source(held_out), small.pruned(held_out))
    assert head.divergence_after == pytest.approx(float(measured), rel=0.02)
    assert head.divergence_after < head.divergence_before
