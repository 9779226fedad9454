from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.samples import Preprocess
from pipeline.errors import DataError, RecipeError
from stages.keras.tensorflow import import_keras
from stages.search.agreement import label_by_source, telling_way


@pytest.fixture(scope="module")
def model():
    keras = import_keras()
    keras.utils.set_random_seed(3)
    image = keras.Input((6, 6, 1))
    return keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(image)))


def test_labels_are_the_classes_of_prepared_samples(model, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        f"x_{split}": rng.integers(0, 256, (count, 6, 6, 1), np.uint8)
        for split, count in (("train", 150), ("test", 30))
    }
    np.savez(tmp_path / "d.npz", **arrays)
    way = Preprocess(scale=1 / 127.5, offset=-1.0)
    made = np.load(label_by_source(model, tmp_path / "d.npz", way, tmp_path / "out"))
    for split in ("train", "test"):
        assert np.array_equal(made[f"x_{split}"], arrays[f"x_{split}"])
        kernel, bias = (weight.numpy() for weight in model.weights)
        scores = (arrays[f"x_{split}"].reshape(-1, 36) / 127.5 - 1) @ kernel + bias
        assert np.array_equal(made[f"y_{split}"], scores.argmax(1))
    assert len(set(made["y_train"])) > 1


@pytest.fixture
def bright(tmp_path):
    """Make a network of pixels from 0 to 255 that tells above 128 from below, and pixels."""
    keras = import_keras()
    image = keras.Input((6, 6, 1))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image)))
    model.set_weights([np.array([[-1.0, 1.0]]), np.array([128.0, -128.0])])
    pixels = np.random.default_rng(0).integers(0, 256, (100, 1, 1, 1)) * np.ones((1, 6, 6, 1))
    return model, pixels.astype(np.uint8)


def test_preprocessing_that_makes_all_samples_one_class_is_not_taken(bright, tmp_path):
    model, pixels = bright
    np.savez(tmp_path / "d.npz", x_train=pixels)
    dark = float((pixels[:, 0, 0, 0] <= 128).mean())
    largest = max(dark, 1 - dark)
    assert telling_way(model, tmp_path / "d.npz", Preprocess(scale=1 / 255)) == (Preprocess(), largest, 1.0)
    assert telling_way(model, tmp_path / "d.npz", Preprocess()) == (Preprocess(), largest, largest)


def test_samples_that_are_one_class_however_prepared_are_refused(bright, tmp_path):
    model, pixels = bright
    np.savez(tmp_path / "d.npz", x_train=np.minimum(pixels, 100))
    with pytest.raises(RecipeError, match="would say nothing"):
        telling_way(model, tmp_path / "d.npz", Preprocess(scale=1 / 255))


def test_samples_of_another_shape_and_models_without_classes_are_refused(model, tmp_path):
    np.savez(tmp_path / "d.npz", x_train=np.zeros((3, 5, 5, 1), np.float32))
    with pytest.raises(DataError, match="don't fit"):
        label_by_source(model, tmp_path / "d.npz", Preprocess(), tmp_path)
    keras = import_keras()
    one = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    with pytest.raises(RecipeError, match="judged by the source's classes"):
        label_by_source(one, tmp_path / "d.npz", Preprocess(), tmp_path)
