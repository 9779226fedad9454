from dataclasses import replace

import numpy as np
import pytest

from pipeline.data import Preprocess
from stages.keras.tensorflow import import_keras
from stages.samples.preprocess_trial import (
    AS_NOW,
    AS_STORED,
    can_be_measured,
    can_be_tried,
    setting_of,
    try_preprocessing,
)

RNG = np.random.default_rng(0)
LABELS = np.arange(120) % 3
STORED = RNG.integers(0, 60, (120, 4, 4, 3)).astype(np.uint8) + (90 * LABELS[:, None, None, None]).astype(np.uint8)
SCALED = Preprocess(scale=1 / 255)


def by_brightness(dark, light, shape=(4, 4, 3)):
    """Build a network whose class is the mean of an image, with its three levels between `dark` and `light`."""
    keras = import_keras()
    image = keras.Input(shape)
    x = keras.layers.Flatten()(image)
    model = keras.Model(image, keras.layers.Dense(3)(x))
    level = np.linspace(0, 1, 256)[[30, 120, 210]] * (light - dark) + dark
    size = int(np.prod(shape))
    model.set_weights([np.tile(2 * level, (size, 1)).astype("f4") / size, -np.square(level).astype("f4")])
    return model  # argmax of 2·m·l minus l² is the level nearest to the mean m


@pytest.mark.parametrize(
    ("dark", "light", "right", "setting"),
    [
        (0, 255, "0…255", "preprocess: {}"),
        (0, 1, "0…1", "preprocess: {scale: 0.00392156862745098}"),
        (-1, 1, "-1…1", "preprocess: {mode: tf}"),
    ],
)
def test_the_range_that_a_network_was_made_for_tells_itself(make_split, dark, light, right, setting):
    split = make_split("test", STORED, LABELS, Preprocess(scale=-7.0))
    model = by_brightness(dark, light)
    assert can_be_tried(model, split)
    tried = try_preprocessing(model, split)
    assert [one.name for one in tried] == [AS_NOW, "0…1", "-1…1", "0…255", "mode caffe", "mode torch"]
    found = {one.name: one for one in tried}
    assert (found[AS_NOW].samples, found[right].samples) == (120, 120)
    assert {one.samples for one in tried if one.accuracy < 0.5} == {32, 120}  # surely worse ones end early
    assert found[right].accuracy == 1.0
    assert found[AS_NOW].accuracy < 0.4
    assert setting_of(found[right].preprocess) == setting


def test_numbers_between_0_and_1_are_brought_to_the_other_ranges(make_split):
    split = make_split("test", STORED.astype(np.float32) / 255, LABELS)
    tried = {one.name: one for one in try_preprocessing(by_brightness(-1, 1), split)}
    assert tried.keys() == {AS_NOW, "-1…1", "0…255"}  # 0…1 is as now, modes are for 0…255
    assert tried["-1…1"].preprocess == Preprocess(scale=2.0, offset=-1.0)
    assert tried["-1…1"].accuracy == 1.0


@pytest.mark.parametrize("shape", [(4, 4, 3), (48,)])
def test_numbers_in_no_usual_range_are_tried_as_they_are_stored(make_split, shape):
    stored = STORED.reshape(120, *shape).astype(np.float32) * 3
    model, wrong = by_brightness(0, 765, shape), make_split("test", stored, LABELS, Preprocess(mode="tf"))
    assert can_be_tried(model, wrong)
    now, as_stored = try_preprocessing(model, wrong)
    assert (now.name, now.correct, now.samples) == (AS_NOW, 40, 120)
    assert (as_stored.name, as_stored.correct, as_stored.preprocess) == (AS_STORED, 120, Preprocess())
    only = try_preprocessing(model, make_split("test", stored, LABELS))
    assert [(one.name, one.correct) for one in only] == [(AS_NOW, 120)]


def test_a_vector_is_tried_in_no_range(make_split):
    tried = try_preprocessing(by_brightness(0, 255, (48,)), make_split("test", STORED.reshape(120, 48), LABELS, SCALED))
    assert [(one.name, one.correct) for one in tried] == [(AS_NOW, 40), (AS_STORED, 120)]


def test_samples_that_begin_blank_are_tried_as_they_are_stored(make_split):
    stored = STORED.astype(np.float32)
    stored[:2] = 0  # which a scale leaves as it is
    tried = {one.name: one for one in try_preprocessing(by_brightness(0, 255), make_split("t", stored, LABELS, SCALED))}
    assert tried["0…255"].correct == 119


def test_at_most_400_samples_evenly_spread(make_split):
    labels = np.sort(np.arange(1200) % 3)  # by class, as folders are read
    split = make_split("test", np.repeat(STORED, 10, axis=0)[np.argsort(np.repeat(LABELS, 10), kind="stable")], labels)
    (now, *_) = try_preprocessing(by_brightness(0, 255), split)
    assert (now.samples, now.accuracy) == (400, 1.0)


def test_only_classifiers_of_grids_of_real_numbers_are_tried(make_split):
    keras = import_keras()
    words = keras.Input((4, 4, 3), dtype="int32")
    counted = keras.Model(words, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Embedding(5, 2)(words))))
    assert not can_be_tried(counted, make_split("test", STORED, LABELS))
    assert can_be_measured(counted, make_split("test", STORED, LABELS))
    by_name = replace(make_split("test", STORED, LABELS), preprocess={"x": SCALED})
    assert not can_be_measured(by_brightness(0, 255), by_name)
    image = by_brightness(0, 255)
    assert not can_be_measured(image, make_split("test", STORED, LABELS.astype("f4"), task="regression"))
    assert not can_be_tried(by_brightness(0, 255, (48,)), make_split("test", STORED.reshape(120, 48), LABELS))
