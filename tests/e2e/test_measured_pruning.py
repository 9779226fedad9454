"""Prune to a share of the instructions of an emulated core, in a recipe from end to end."""

import numpy as np
import pytest

from pipeline import Recipe, run
from stages.keras.tensorflow import import_keras

RECIPE = """\
name: measured
model: model.keras
stages:
  - load
  - prune: {{instructions: 0.6, measure_on: {{target: {target}, scheme: float32}}}}
"""


@pytest.fixture
def recipe(tmp_path):
    """Write a recipe for a network whose two convolutions have 24 channels each."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(24, 3, activation="relu", name="first")(image)
    x = keras.layers.Conv2D(24, 3, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(4, name="head")(x), name="small")
    model.save(tmp_path / "model.keras")

    def write(target):
        path = tmp_path / "measured.yaml"
        path.write_text(RECIPE.format(target=target))
        return Recipe.load(path)

    return write


@pytest.mark.slow
def test_a_share_of_instructions_is_met_on_the_exported_network(cortex_a72, recipe, tmp_path):
    store = tmp_path / "store"
    manifest = run(recipe("cortex-a72"), store)
    entry = next(one for one in manifest.stages if one.stage == "prune")
    assert abs(entry.metrics["instruction_ratio"] / 0.6 - 1) <= 0.03
    report = entry.outputs[1]
    assert report.facts.channels_after < report.facts.channels_before == 48
    kept = entry.outputs[0].facts.params
    assert np.isfinite(kept)
    again = run(recipe("cortex-a72"), store)
    assert {one.status for one in again.stages} == {"hit"}


def test_a_target_that_gives_no_such_number_is_refused_before_anything_runs(recipe, tmp_path):
    from pipeline.errors import RecipeError

    for target, words in (("cpu", "cpu gives no instructions"), ("tflm", "tflm gives no instructions")):
        with pytest.raises(RecipeError, match=words) as caught:
            run(recipe(target), tmp_path / "store")
        assert "measured.yaml" in str(caught.value.where)
    assert not (tmp_path / "store").exists()
