"""Test that a group which lost nearly all of its channels is told: when it happens, and whenever the run is shown."""

import pytest
from typer.testing import CliRunner

from pipeline.cli import build_app
from stages.keras.tensorflow import import_keras

RECIPE = """\
name: emptied
model: model.keras
stages:
  - load
  - prune: {layers: {hidden: 0.9}}
"""
NOTE = "prune: more than 75 % of the channels are gone: hidden keeps 2 of 20; layers: {hidden: 0.75} prevents this"


@pytest.fixture
def recipe(tmp_path):
    keras = import_keras()
    keras.utils.set_random_seed(0)
    vector = keras.Input((6,))
    x = keras.layers.Dense(20, activation="relu", name="hidden")(vector)
    keras.Model(vector, keras.layers.Dense(3, name="head")(x)).save(tmp_path / "model.keras")
    path = tmp_path / "emptied.yaml"
    path.write_text(RECIPE)
    return path


def test_a_run_a_cached_run_and_show_tell_which_group_was_emptied(recipe, tmp_path):
    def call(*arguments):
        result = CliRunner().invoke(build_app([arguments[0]]), [*arguments, "--store", str(tmp_path / "store")])
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    assert NOTE in call("run", str(recipe))
    assert NOTE in call("run", str(recipe))  # all cached: no stage warns
    assert NOTE in call("show", "latest")
    recipe.write_text(RECIPE.replace("0.9", "0.75"))
    assert not any("more than 75 %" in line for line in call("run", str(recipe)))
