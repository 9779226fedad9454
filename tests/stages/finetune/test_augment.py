import numpy as np
import pytest

from stages.finetune.augment import augmented, shares, training_transform, validation_transform
from stages.finetune.config import Augment, FinetuneConfig
from stages.keras.tensorflow import import_tensorflow

IMAGES = np.random.default_rng(0).random((64, 7, 5, 2)).astype(np.float32) + 1


def changed(seed=(3, 4), **settings):
    return np.asarray(augmented(import_tensorflow().constant(IMAGES), seed, Augment(**settings)))


@pytest.mark.parametrize(("flip", "axes"), [("horizontal", [2]), ("vertical", [1]), ("both", [1, 2])])
def test_about_half_of_the_images_are_mirrored_along_each_axis(flip, axes):
    found = changed(flip=flip)
    variants = [IMAGES]
    for axis in axes:
        variants += [np.flip(variant, axis) for variant in variants]
    which = [next(i for i, v in enumerate(variants) if np.array_equal(v[n], found[n])) for n in range(len(IMAGES))]
    counts = np.bincount(which, minlength=len(variants))
    assert counts.min() >= 0.3 * len(IMAGES) / len(variants)


def test_a_crop_is_a_window_of_the_image_padded_with_zeros():
    found, padded = changed(crop=2), np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    windows = [(r, c) for r in range(5) for c in range(5)]
    taken = [
        [(r, c) for r, c in windows if np.array_equal(padded[n, r : r + 7, c : c + 5], found[n])] for n in range(64)
    ]
    assert all(len(one) == 1 for one in taken)
    assert len({one[0] for one in taken}) > 15


def test_a_shift_moves_by_at_most_its_share_and_repeats_the_edges():
    found, padded = changed(shift=0.3), np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    for n in range(64):
        assert any(np.array_equal(padded[n, r : r + 7, c : c + 5], found[n]) for r in range(5) for c in range(5))
    assert not np.array_equal(found, IMAGES)


def test_equal_seeds_give_equal_images_and_others_give_others():
    settings = {"flip": "both", "crop": 2, "shift": 0.3}
    assert np.array_equal(changed(**settings), changed(**settings))
    assert not np.array_equal(changed(**settings), changed(seed=(3, 5), **settings))


def test_no_smoothing_is_one_hot_and_smoothing_gives_a_share_to_all():
    labels = import_tensorflow().constant([0, 2], "int64")
    assert shares(labels, 3, 0.0).numpy().tolist() == [[1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(shares(labels, 3, 0.3), [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(shares(labels[:1], 1, 0.2), [[0.1]], rtol=1e-6)
    np.testing.assert_allclose(shares(labels[1:] - 1, 1, 0.2), [[0.9]], rtol=1e-6)


def test_mixup_blends_inputs_labels_and_weights_in_one_proportion():
    tf = import_tensorflow()
    transform = training_transform(FinetuneConfig(mixup=0.4), 2, np.array([1.0, 3.0], np.float32))
    x = np.array([[0.0], [10.0], [0.0], [10.0]], np.float32)
    inputs, labels, weights = transform((1, 2), tf.constant(x), tf.constant([0, 1, 0, 1], tf.int64))
    share = np.asarray(labels)[:, 1]
    np.testing.assert_allclose(np.asarray(inputs)[:, 0], 10 * share, rtol=1e-5)
    np.testing.assert_allclose(weights, 1 + 2 * share, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(labels).sum(1), 1, rtol=1e-6)
    assert 0 < share.min() < share.max() < 1


def test_class_weights_go_with_their_samples():
    tf = import_tensorflow()
    transform = training_transform(FinetuneConfig(), None, np.array([1.0, 3.0], np.float32))
    _, labels, weights = transform((1, 2), tf.zeros((3, 1)), tf.constant([0, 1, 0], tf.int64))
    assert labels.numpy().tolist() == [0, 1, 0]
    assert weights.numpy().tolist() == [1, 3, 1]


def test_what_changes_nothing_is_no_transform_and_validation_is_never_augmented():
    assert training_transform(FinetuneConfig(), None, None) is None
    assert validation_transform(None) is None
    inputs, labels = validation_transform(2)(None, "untouched", import_tensorflow().constant([1], "int64"))
    assert inputs == "untouched"
    assert labels.numpy().tolist() == [[0, 1]]
