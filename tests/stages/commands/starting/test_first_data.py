"""Check what is told from a data file."""

import numpy as np
import pytest

from pipeline.errors import DataError, RecipeError
from pipeline.recipe.recipe import Recipe
from stages.commands.starting.first_data import DataGuess


@pytest.mark.parametrize(("factor", "prepared"), [(1 / 255, True), (1.0, False)])
def test_samples_that_are_no_pixels_are_not_scaled_as_pixels(tmp_path, factor, prepared, invoke, saved):
    x = np.linspace(0, 255, 20 * 144).reshape(20, 12, 12, 1).astype(np.float32) * np.float32(factor)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(20) % 3)
    invoke(saved(tmp_path / "m.keras"), "-o", tmp_path / "r.yaml", "--data", tmp_path / "d.npz")
    text = (tmp_path / "r.yaml").read_text()
    assert ("none" in text.partition("as guessed")[0]) is prepared
    assert (Recipe.load(tmp_path / "r.yaml").data.preprocess.scale == 1) is prepared
    assert "control: true" in text


@pytest.mark.parametrize(
    ("name", "members", "error", "words"),
    [
        ("no.npz", None, RecipeError, "the data can't be read: no such file"),
        ("folder", None, RecipeError, "the folder holds no images, csv files or TFRecords"),
        ("m.bin", None, RecipeError, "of no kind that is known here"),
        ("my data.npz", ("images",), DataError, "holds no inputs x_train: it has images"),
        ("my data.npz", ("x_test",), DataError, "holds no inputs x_train: it has x_test"),
    ],
)
def test_data_that_a_recipe_can_not_begin_with_is_named(tmp_path, name, members, error, words, invoke, unlabelled):
    (tmp_path / "folder").mkdir()
    (tmp_path / "m.bin").write_bytes(bytes(range(9, 40)) + bytes(20))
    if members:
        unlabelled(tmp_path, *members)
    with pytest.raises(error, match=words):
        invoke(tmp_path / "none.keras", "-o", tmp_path / "r.yaml", "--data", tmp_path / name)


def test_a_search_chooses_by_test_data_where_there_are_enough_else_by_more_of_train():
    guess = DataGuess(source="npz", path="d.npz", settings=(), splits=("train",), labelled=True, tested=True)
    counts = {"train": 3600, "validation": 400, "test": 2000}
    half = guess.model_copy(update={"counts": counts}).for_a_search()
    assert (half.held_out.from_, half.held_out.fraction) == ("test", 0.5)
    assert half.counts == {"train": 4000, "validation": 1000, "test": 1000}
    assert half.words == "train 4,000 · validation 1,000 (drawn from test) · test 1,000"
    few = guess.model_copy(update={"counts": counts | {"test": 799}}).for_a_search()
    assert (few.held_out.from_, few.held_out.fraction) == ("train", 0.2)
    assert few.counts == {"train": 3200, "validation": 800, "test": 799}
    drawn = guess.model_copy(update={"counts": counts, "tested": False}).for_a_search()
    assert drawn.counts == {"train": 3200, "validation": 800, "test": 2000}
    many = guess.model_copy(update={"counts": {"train": 9000, "validation": 1000, "test": 100}})
    stored = few.model_copy(update={"validation": "val"})
    assert many.for_a_search() == many
    assert stored.for_a_search() == stored
    assert guess.for_a_search() == guess  # nothing was counted
