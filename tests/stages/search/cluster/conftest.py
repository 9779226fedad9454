from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe.recipe import Recipe
from pipeline.recipe.search_spec import swept

TEXT = """\
name: swept
seed: 3
model: model.keras
stages:
  - load
  - prune: {criterion: l2, ratio: 0.5, round_to: 2}
  - strip
  - quantize: {schemes: [float32]}
  - export: {formats: [tflite]}
  - benchmark: {rounds: 2, seconds: 0.005}
sweep:
  - {stages.prune.ratio: 0.25}
  - {stages.prune.ratio: 0.5}
  - {stages.prune.ratio: 0.5, stages.prune.criterion: random}
"""


@pytest.fixture(scope="session")
def swept_recipe(tmp_path_factory: pytest.TempPathFactory, keras: Any) -> Path:
    """Return a recipe of three chains that measure on this machine, for a network that is small and quick."""
    folder, layers = tmp_path_factory.mktemp("swept"), keras.layers
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(image)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(8, 3, activation="relu", name="conv")(x))
    keras.Model(image, layers.Dense(3, name="head")(x), name="small").save(folder / "model.keras")
    (folder / "recipe.yaml").write_text(TEXT)
    return folder / "recipe.yaml"


@pytest.fixture(scope="session")
def three(swept_recipe: Path) -> Callable[..., list[Recipe]]:
    """Load these recipes, with more settings."""

    def load(*more: str) -> list[Recipe]:
        sweep = Recipe.load(swept_recipe).sweep
        assert sweep is not None
        settings = [tuple(f"{key}={json.dumps(value)}" for key, value in entry.items()) for entry in swept(sweep)]
        return [Recipe.load(swept_recipe, (*entry, *more)) for entry in settings]

    return load
