"""Make the recipe of the source as it is: the user's recipe without what changes weights."""

from __future__ import annotations

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import OpensModel
from pipeline.recipe.recipe import Recipe
from pipeline.records.values import Json

CLEANS = "strip"  # takes out what only training needs, and computes the same


def untouched(recipe: Recipe) -> dict[str, Json]:
    """Return settings with which a recipe exports, verifies and measures the source, in the same files."""
    changing = {
        step.path[1]
        for step in recipe.steps
        if "keras-model" in stages()[step.stage].outputs
        and not isinstance(stages()[step.stage], OpensModel)
        and step.stage != CLEANS
    }
    entries = recipe.source.data["stages"]
    return {
        "stages": [entry for index, entry in enumerate(entries) if index not in changing],
        "control": False,
        "gates": [],
    }
