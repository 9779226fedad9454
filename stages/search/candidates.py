"""Make the recipe of a candidate: the user's, with other values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.recipe.recipe import STUDY, Recipe
from pipeline.records.values import Json


@dataclass(frozen=True)
class Base:
    """Hold the recipe that candidates are made from, and where it came from; `storage` is a database for the study."""

    file: Path
    overrides: tuple[str, ...]
    recipe: Recipe
    storage: str | None = None


def recipe_of(base: Base, settings: Mapping[str, Json]) -> Recipe:
    """Return the recipe with other values, by the paths that `--set` takes; RecipeError if they don't fit."""
    changes = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return Recipe.load(base.file, (*base.overrides, *changes))


def written(base: Base, settings: Mapping[str, Json], path: Path) -> Path:
    """Write a candidate's recipe to a file that can be run from anywhere, and return its path."""
    return written_data(recipe_of(base, settings).source.data, base, path)


def written_data(data: Mapping[str, Json], base: Base, path: Path) -> Path:
    """Write the plain data of a recipe in `base`'s folder to a file elsewhere, and return its path."""
    plain = {key: value for key, value in data.items() if key not in STUDY}
    if isinstance(plain.get("model"), str):
        plain["model"] = _from(base.recipe.folder / plain["model"], path)
    if isinstance(plain.get("data"), dict) and isinstance(plain["data"].get("path"), str):
        plain["data"] = {**plain["data"], "path": _from(base.recipe.folder / plain["data"]["path"], path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # a flag, in spite of its hint
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(plain, file)
    return path


def _from(file: Path, recipe: Path) -> str:
    return Path(os.path.relpath(file.resolve(), recipe.parent.resolve())).as_posix()
