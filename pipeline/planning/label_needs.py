"""Refuse, before anything runs, what requires labels if the data has none (`task: unlabelled`).

Without labels, outputs can be compared and a model can learn from its source's outputs; no metric can be computed from
labels.
"""

from __future__ import annotations

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import NeedsLabels
from pipeline.contracts.stage import StageConfig
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.steps import StageStep
from pipeline.records.declared import declared


def require_splits(recipe: Recipe, stage: str, config: StageConfig, step: StageStep) -> tuple[str, ...]:
    """Return the splits that a stage reads; RecipeError if the recipe lacks data, a test split, or labels for it."""
    where, data = recipe.source.where(step.path), recipe.data
    wanted: tuple[str, ...] = stages()[stage].splits(config)
    if wanted and data is None:
        what = f"{stage} needs data, and the recipe has none"
        raise RecipeError(what, where=where, hint="add `data:` to the recipe")
    if data is None:
        return wanted
    if "test" in wanted and not data.judged:
        hint = "add `test: test` under data, or `test: {fraction: 0.2}`; labels are not needed for comparing outputs"
        raise RecipeError(f"{stage} needs a test split, and the recipe names none", where=where, hint=hint)
    implementation = stages()[stage]
    needing = implementation.labels_for(config) if isinstance(implementation, NeedsLabels) and data.unlabelled else None
    if needing is not None:
        raise RecipeError(f"{needing[0]} needs labels, and data.task is unlabelled", where=where, hint=needing[1])
    return wanted


def measured_by_labels(metric: str) -> bool:
    """Return whether a metric (its flat name without NAME and output) needs labels; user-defined functions do, too."""
    declaration = None if ":" in metric else declared(metric)
    return ":" in metric or (declaration is not None and declaration.needs_labels)
