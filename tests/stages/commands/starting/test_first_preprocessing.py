"""Check `init --data`: the preprocessing that the data proves, instead of a guess."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pipeline.data import Preprocess
from pipeline.recipe.recipe import Recipe
from stages.commands.init import command
from stages.keras.tensorflow import import_keras

APP = typer.Typer()
APP.command()(command)
LABELS = np.arange(300) % 3
STORED = (np.random.default_rng(0).integers(0, 60, (300, 4, 4, 1)) + 90 * LABELS[:, None, None, None]).astype(np.uint8)


@pytest.fixture
def written(tmp_path):
    """Return the recipe and init's output, for a network that separates brightness between two values."""

    def write(dark, light, stored=STORED, labels=LABELS):
        keras = import_keras()
        image = keras.Input((4, 4, 1))
        model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
        level = np.array([30, 120, 210]) / 255 * (light - dark) + dark
        model.set_weights([np.tile(level, (16, 1)).astype("f4") / 8, -np.square(level).astype("f4")])
        model.save(tmp_path / "m.keras")
        np.savez(tmp_path / "d.npz", x_train=stored, y_train=labels, x_test=stored[:60], y_test=labels[:60])
        arguments = [str(tmp_path / "m.keras"), "-o", str(tmp_path / "r.yaml"), "--data", str(tmp_path / "d.npz")]
        result = CliRunner().invoke(APP, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        return Recipe.load(tmp_path / "r.yaml"), (tmp_path / "r.yaml").read_text(), result.stdout

    return write


@pytest.mark.parametrize(
    ("dark", "light", "way"),
    [(0, 255, Preprocess()), (0, 1, Preprocess(scale=1 / 255)), (-1, 1, Preprocess(mode="tf"))],
)
def test_the_data_tells_the_range_that_the_network_was_made_for(written, dark, light, way):
    recipe, text, told = written(dark, light)
    assert recipe.data.preprocess == way
    assert "  # right on 100.0% of 270 training samples (3 classes, chance 33.3%)\n" in text
    assert "CHECK" not in text.partition("data:")[2]
    assert "right on 100.0% of 270 training samples" in told


def test_stored_numbers_between_0_and_1_too(written):
    recipe, _, told = written(-1, 1, STORED.astype(np.float32) / 255)
    assert recipe.data.preprocess == Preprocess(scale=2.0, offset=-1.0)
    assert "preprocess  times 2 plus -1: " in told


def test_what_proves_nothing_leaves_the_guess_and_says_so(written):
    shuffled = np.random.default_rng(5).permutation(LABELS)
    recipe, text, _ = written(0, 255, labels=shuffled)
    assert recipe.data.preprocess == Preprocess(scale=1 / 255)
    assert "# CHECK: no better than chance: right on " in text
    assert "is it untrained, or is this not what it was trained for?" in text.replace("\n  #   ", " ")
    assert max(map(len, text.splitlines())) <= 100


def test_data_that_is_where_the_recipe_looks_for_it_is_looked_into_unasked(written, tmp_path):
    written(0, 255)
    (tmp_path / "d.npz").rename(tmp_path / "data.npz")
    arguments = [str(tmp_path / "m.keras"), "-o", str(tmp_path / "r2.yaml")]
    told = CliRunner().invoke(APP, arguments, catch_exceptions=False).stdout
    assert "data        data.npz (npz): train 270 · validation 30 (drawn from train) · test 60" in told
    assert "fill in" not in told
    data = Recipe.load(tmp_path / "r2.yaml").data
    assert (str(data.path), data.preprocess) == ("data.npz", Preprocess())
    (tmp_path / "data.npz").write_bytes(b"not an npz")
    told = CliRunner().invoke(APP, [*arguments, "--force"], catch_exceptions=False).stdout
    assert "data        " not in told
    assert "fill in" in told
