"""Make the recipe of the source as it is: the user's recipe without what changes weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import OpensModel
from pipeline.recipe.recipe import Recipe

CLEANS = "strip"  # takes out what only training needs, and computes the same


def untouched(recipe: Recipe) -> dict[str, Any]:
    """Return the plain data of a recipe that exports, verifies and measures the source, in the same files."""
    data: dict[str, Any] = deepcopy(recipe.source.data)
    changing = {
        step.path[1]
        for step in recipe.steps
        if "keras-model" in stages()[step.stage].outputs
        and not isinstance(stages()[step.stage], OpensModel)
        and step.stage != CLEANS
    }
    data["stages"] = [entry for index, entry in enumerate(data["stages"]) if index not in changing]
    for key in ("search", "sweep", "gates", "control"):
        data.pop(key, None)
    return data
