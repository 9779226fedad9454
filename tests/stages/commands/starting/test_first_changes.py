"""Check which changes of images are kept: a network that tells left from right minds mirrors, others do not."""

import numpy as np
import pytest

from pipeline.data.samples import Preprocess
from pipeline.data.splits import Split
from stages.commands.starting.first_changes import changes_kept
from stages.finetune.config import Augment
from stages.keras.tensorflow import import_keras

SIZE, COUNT = 16, 200
LABELS = np.arange(COUNT) % 2
DARK, BRIGHT = 0.2, 0.8


def network(kernel, bias):
    keras = import_keras()
    image = keras.Input((SIZE, SIZE, 1))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    model.set_weights([np.stack([-kernel, kernel], -1).reshape(-1, 2).astype("f4"), np.array([bias, -bias], "f4")])
    return model


def split(images):
    noise = np.random.default_rng(0).normal(0, 0.02, images.shape)
    return Split("train", "sha256:0", (images + noise).astype("f4"), LABELS, Preprocess())


def halves(axis):
    """Return a network for whether the second half along an axis is the brighter one, and images of both kinds."""
    sign = np.repeat([-1.0, 1.0], SIZE // 2)
    pattern = np.broadcast_to(sign if axis else sign[:, None], (SIZE, SIZE))
    images = 0.5 + 0.3 * (2 * LABELS - 1)[:, None, None, None] * pattern[None, :, :, None]
    return network(pattern, 0.0), split(images)


def test_a_network_of_left_and_right_minds_mirrors_and_not_small_shifts():
    kept = changes_kept(*halves(axis=1), COUNT)
    assert kept.augment == Augment(shift=0.1)
    assert kept.accuracy == kept.plain == 1.0


def test_a_network_of_above_and_below_does_not_mind_mirrors():
    assert changes_kept(*halves(axis=0), COUNT).augment == Augment(flip="horizontal", shift=0.1)


def test_a_network_of_single_pixels_minds_all():
    """Each column is the other colour than its neighbours, so that a step aside or a mirror turns the class around."""
    sign = np.tile([-1.0, 1.0], SIZE // 2)
    pattern = np.broadcast_to(sign, (SIZE, SIZE))
    images = 0.5 + 0.3 * (2 * LABELS - 1)[:, None, None, None] * pattern[None, :, :, None]
    assert changes_kept(network(pattern, 0.0), split(images), COUNT) is None


@pytest.mark.parametrize("shape", [(8, 8, 1), (32,), (None, None, 3)])
def test_what_is_no_image_of_some_size_is_not_changed(shape):
    keras = import_keras()
    entry = keras.Input(shape)
    flat = entry if len(shape) == 1 else keras.layers.GlobalAveragePooling2D()(entry)
    model = keras.Model(entry, keras.layers.Dense(2)(flat))
    assert changes_kept(model, split(np.zeros((COUNT, 8, 8, 1))), COUNT) is None


def test_as_many_samples_are_looked_at_as_asked_for():
    assert changes_kept(*halves(axis=0), 50).samples == 50
