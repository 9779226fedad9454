"""Find the preprocessing that small trained networks need, and say when nothing is found."""

import numpy as np
import pytest

from pipeline.data import Preprocess
from stages.keras.tensorflow import import_keras
from stages.samples.preprocess_trial import Tried
from stages.samples.source_accuracy import (
    better,
    chance_of,
    is_at_chance,
    is_far_above,
    measure,
    sample_count,
    why_unmeasured,
)

RNG = np.random.default_rng(0)
LABELS = np.arange(480) % 6
# A class is a bright color and how bright it is: neither BGR for RGB nor another range leaves it as it was.
LEVELS = np.full((6, 3), 40.0)
LEVELS[np.arange(6), np.arange(6) // 2] = np.where(np.arange(6) % 2, 130.0, 220.0)
IMAGES = np.clip(RNG.normal(LEVELS[LABELS][:, None, None], 25, (480, 4, 4, 3)), 0, 255).astype(np.uint8)
WAYS = {
    "0…1": Preprocess(scale=1 / 255),
    "-1…1": Preprocess(mode="tf"),
    "0…255": Preprocess(),
    "mode caffe": Preprocess(mode="caffe"),
    "mode torch": Preprocess(mode="torch"),
}


def layers(size=6, activation="softmax"):
    keras = import_keras()
    image = keras.Input((4, 4, 3))
    color = keras.layers.GlobalAveragePooling2D()(image)
    hidden = keras.layers.Dense(16, "relu")(color)
    return keras.Model(image, keras.layers.Dense(size, activation)(hidden))


@pytest.fixture(scope="module")
def trained():
    """Train on 0…1, and return the weights."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    model = layers()
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(IMAGES.astype("f4") / 255, LABELS, batch_size=32, epochs=12, verbose=0)
    return model.get_weights()


def trained_with(weights, way):
    """Return the trained network for inputs preprocessed in another way, which is folded into its first layer."""
    model = layers()
    probes = np.concatenate([np.zeros((1, 3)), np.eye(3) * 255])  # RGB
    offset, *columns = way(probes).astype(np.float64)
    back = np.linalg.inv(np.array(columns) - offset)  # from what `way` gives to 0…1
    kernel, bias, *rest = weights
    model.set_weights([back @ kernel, bias - offset @ back @ kernel, *rest])
    return model


@pytest.mark.parametrize(("name", "way"), WAYS.items())
def test_the_preprocessing_of_the_training_is_chosen_whatever_is_given(make_split, trained, name, way):
    given = WAYS["mode caffe" if name == "0…1" else "0…1"]
    model = trained_with(trained, way)
    found = measure(model, make_split("train", IMAGES, LABELS, given))
    assert found.chosen.preprocess == way
    assert (found.chosen.accuracy, found.proved, found.order) == (pytest.approx(1.0, abs=0.02), True, None)
    assert (found.classes, found.chance) == (6, pytest.approx(1 / 6))
    assert found.as_given.preprocess == given
    assert found.as_given.accuracy < 0.9
    independent = (model.predict(way(IMAGES), verbose=0).argmax(-1) == LABELS).mean()
    assert found.chosen.accuracy == independent  # 480 samples: all of them
    right = measure(model, make_split("train", IMAGES, LABELS, way))
    assert right.chosen is right.as_given


@pytest.mark.parametrize(("way", "setting"), [("-1…1", {"scale": 2.0, "offset": -1.0}), ("0…255", {"scale": 255.0})])
def test_numbers_stored_between_0_and_1_are_scaled(make_split, trained, way, setting):
    found = measure(trained_with(trained, WAYS[way]), make_split("train", IMAGES.astype("f4") / 255, LABELS))
    assert found.chosen.preprocess == Preprocess(**setting)
    assert found.proved


def test_labels_in_another_order_are_told_with_the_preprocessing_that_then_fits(make_split, trained):
    order = np.array([3, 4, 5, 0, 1, 2])
    found = measure(trained_with(trained, WAYS["-1…1"]), make_split("train", IMAGES, order[LABELS], WAYS["0…1"]))
    assert found.order == tuple(np.argsort(order))
    assert found.ordered.preprocess == WAYS["-1…1"]
    assert found.ordered.accuracy > 0.97
    assert not found.proved


def test_an_untrained_network_proves_nothing(make_split):
    import_keras().utils.set_random_seed(3)
    found = measure(layers(), make_split("train", IMAGES, RNG.permutation(LABELS), WAYS["0…1"]))
    assert found.chosen is found.as_given
    assert (found.proved, found.order) == (False, None)


def test_large_networks_see_fewer_samples():
    assert [sample_count(macs) for macs in (0, 10**6, 2 * 10**8, 10**10)] == [1000, 1000, 500, 100]


def test_progress_is_told_after_each_batch(make_split):
    told = []
    measure(layers(), make_split("train", IMAGES, LABELS), lambda done, total: told.append((done, total)))
    assert told == [(done, 480) for done in range(32, 481, 32)]


def test_what_can_not_be_measured_says_why(make_split):
    keras = import_keras()
    numbers = make_split("train", IMAGES, RNG.random((480, 6)).astype("f4"), task="regression")
    assert why_unmeasured(layers(), make_split("train", IMAGES, LABELS)) is None
    assert "regression has no classes to be right about" in why_unmeasured(layers(6, "linear"), numbers)
    unlabelled = make_split("train", IMAGES, None, task="unlabelled")
    assert "agreement with the source takes the place of accuracy" in why_unmeasured(layers(), unlabelled)
    image = keras.Input((4, 4, 3))
    twice = keras.Model(image, [keras.layers.Flatten()(image), keras.layers.ReLU()(image)])
    assert "one input and one output" in why_unmeasured(twice, make_split("train", IMAGES, LABELS))
    whole = keras.Model(image, keras.layers.ReLU()(image))
    assert "not one row a sample" in why_unmeasured(whole, make_split("train", IMAGES, LABELS))


def test_chance_is_the_largest_class_or_a_guess():
    assert chance_of([0, 0, 0, 1], 2) == 0.75
    assert chance_of([0, 1, 2, 3], 10) == 0.25
    assert chance_of([0, 1], 1) == 0.5
    assert is_at_chance(0.1, 100, 0.1)
    assert is_at_chance(0.02, 100, 0.1)
    assert not is_at_chance(0.3, 100, 0.1)
    assert not is_at_chance(0.1, 49, 0.1)


def trial(right, samples=100, first=0):
    predicted = np.ones(samples, int)
    predicted[first : first + right] = 0
    return Tried("x", Preprocess(), predicted, np.zeros(samples, int))


@pytest.mark.parametrize(
    ("now", "other", "is_better", "is_far"),
    [(10, 80, True, True), (10, 30, True, False), (10, 18, False, False), (60, 80, True, True), (60, 66, False, True)],
)
def test_only_what_is_surely_better_is_taken_and_only_far_from_chance_it_is_proved(now, other, is_better, is_far):
    tried = [trial(now), trial(other), trial(0)]  # right on the same first samples
    assert (better(tried) is tried[1]) == is_better
    assert is_far_above(tried[1], chance=0.1) == is_far
    assert better(tried[:1]) is None


def test_pairs_decide_on_the_samples_that_both_saw():
    now, other = trial(60), trial(66, first=34)  # differ on 74 samples, 40 to 34
    assert better([now, other]) is None
    assert better([trial(0, 400), trial(30, 32)]).samples == 32
