"""Check `init --data` as a user calls it: other sources, labels in other orders and forms, data that does not fit."""

import json

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.recipe.recipe import Recipe
from stages.keras.tensorflow import import_keras, import_tensorflow

LEVELS = np.array([30.0, 90.0, 150.0, 210.0])
NAMES = ("night", "dusk", "dawn", "noon")  # in the model's order
LABELS = np.arange(240) % 4
STORED = (np.random.default_rng(0).integers(0, 40, (240, 4, 4, 1)) + 60 * LABELS[:, None, None, None] + 10).astype("u1")


@pytest.fixture
def folder(tmp_path):
    """Save a network that tells four levels of brightness apart, of 0…1."""
    keras = import_keras()
    image = keras.Input((4, 4, 1), name="image")
    model = keras.Model(image, keras.layers.Softmax()(keras.layers.Dense(4)(keras.layers.Flatten()(image))))
    level = LEVELS / 255 * 30  # steep, so that outputs are sure
    model.set_weights([np.tile(2 * level * 30 / 16, (16, 1)).astype("f4"), -np.square(level).astype("f4")])
    model.save(tmp_path / "m.keras")
    return tmp_path


@pytest.fixture
def started(folder, invoke):
    """Call `init --data` on a file of the folder, or an npz of these arrays, and return what it writes and prints."""

    def start(path="d.npz", **arrays):
        if arrays:
            np.savez(folder / path, **arrays)
        told = invoke(folder / "m.keras", "-o", folder / "r.yaml", "--data", folder / path, "--force")
        return Recipe.load(folder / "r.yaml").data, (folder / "r.yaml").read_text(), told

    return start


def write_images(folder, name, labels=LABELS):
    encode = import_tensorflow().io.encode_png
    for index, (pixels, label) in enumerate(zip(STORED, labels, strict=True)):
        path = folder / name / NAMES[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(pixels).numpy())


def test_folders_of_images_get_the_order_of_classes_in_which_the_source_is_right(folder, started):
    write_images(folder, "photos")
    data, text, told = started("photos")
    assert (data.source, data.settings.size, data.settings.channels, data.classes) == (
        "image_folder",
        (4, 4),
        1,
        NAMES,
    )
    assert "CHECK: in this order the source is right; sorted by name, on " in text
    assert "classes (check it): in this order the source is right" in told
    assert "data        photos (image_folder): train 172 · validation 20 (drawn from train) · test 48 (drawn" in told
    assert "preprocess  times 0.003922: right on 100.0% of 172 training samples (4 classes, chance 25.0%)" in told


def test_validation_data_of_its_own_is_what_the_source_is_measured_on(started):
    arrays = {"x_val": STORED[:120], "y_val": LABELS[:120], "x_test": STORED, "y_test": LABELS}
    data, text, _ = started(x_train=STORED, y_train=(LABELS + 1) % 4, **arrays)
    assert data.validation == "val"
    assert "right on 100.0% of 120 validation samples" in text


@pytest.mark.parametrize(
    ("labels", "note"),
    [(np.eye(4, dtype="f4")[LABELS], "its labels are one-hot"), (LABELS.astype("f4"), "stored as floats")],
)
def test_labels_of_a_classifier_are_classes_in_whatever_form(started, labels, note):
    data, text, _ = started(x_train=STORED, y_train=labels)
    assert data.task == "classes"
    assert note in text
    assert "right on 100.0% of " in text


def test_numbers_that_are_in_another_order_are_told(started):
    data, text, told = started(x_train=STORED, y_train=(LABELS + 1) % 4)
    assert "CHECK" in text.partition("data:")[2]
    assert "on 100.0% at preprocess: {scale: 0.00392" in told
    assert "if labels 0, 1, 2, 3 were 3, 0, 1, 2" in told
    assert data.preprocess.scale == 1 / 255


def test_without_labels_nothing_is_measured(started):
    data, text, told = started(x_train=STORED)
    assert data.unlabelled
    why = "not measured: there are no labels: agreement with the source takes the place of accuracy"
    assert f"# the source's accuracy is {why}" in text
    assert f"source      {why}" in told


def test_regression_is_not_measured(folder, started):
    keras = import_keras()
    image = keras.Input((4, 4, 1))
    keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image))).save(folder / "m.keras")
    data, text, _ = started(x_train=STORED, y_train=LABELS * 10)
    assert data.task == "regression"
    assert "not measured: regression has no classes to be right about" in text


@pytest.mark.parametrize(
    ("arrays", "what", "where"),
    [
        ({"x_train": STORED[..., 0], "y_train": LABELS}, "takes 4×4×1", "d.npz: train"),
        ({"x_train": STORED, "y_train": LABELS + 1}, "labels run from 1 to 4, the model's 4 classes from 0", "train"),
        ({"x_train": np.where(STORED > 9, np.nan, 1), "y_train": LABELS}, "holds NaN or infinity", "d.npz: train"),
        ({"x_train": STORED, "y_train": np.array(NAMES)[LABELS]}, "targets are words", "d.npz: train"),
        ({"x_train": STORED, "y_train": LABELS[:9]}, "240 samples, y_train has 9 labels", "d.npz"),
        (
            {"x_train": STORED, "y_train": LABELS, "x_test": STORED[:, :2], "y_test": LABELS},
            "samples are 2×4×1",
            "d.npz: test",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused_with_its_split(folder, started, arrays, what, where):
    with pytest.raises(DataError, match=what) as error:
        started(**arrays)
    assert error.value.where.endswith(where)
    assert error.value.hint
    assert not (folder / "r.yaml").exists()


def test_data_that_nobody_named_is_left_out_where_it_does_not_fit(folder, invoke):
    np.savez(folder / "data.npz", x_train=STORED[..., 0], y_train=LABELS)
    told = invoke(folder / "m.keras", "-o", folder / "r.yaml")
    assert "data.npz is not used, since it does not fit: the data does not fit the model: samples are 4×4" in told
    assert "fill in" in told


def test_the_document_holds_what_was_found(folder, invoke):
    np.savez(folder / "d.npz", x_train=STORED, y_train=LABELS)
    arguments = [folder / "m.keras", "-o", folder / "r.yaml", "--data", folder / "d.npz", "--json"]
    document = json.loads(invoke(*arguments))
    assert document["data"]["counts"] == {"train": 172, "validation": 20, "test": 48}
    assert (document["source"]["classes"], document["source"]["chance"]) == (4, 0.25)
    first = document["source"]["tried"][0]
    assert (first["name"], first["accuracy"], first["samples"], first["chosen"]) == ("as guessed", 1.0, 172, True)
    assert document["fill_in"] == []
    text = (folder / "r.yaml").read_text()
    invoke(*arguments, "--force")
    assert (folder / "r.yaml").read_text() == text
