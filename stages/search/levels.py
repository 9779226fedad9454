"""Divide a recipe into levels of fidelity: pruned and re-fitted, trained, exported and measured.

Below them is `allocated`, for which nothing runs: what one candidate's pruning foresees of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import TreatsControl
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import CONTROL, SOURCE
from pipeline.records.metrics import MACS
from stages.search.goal import ACCURACY

LevelName = Literal["allocated", "fitted", "trained", "measured"]
PRUNE = "prune"
SHARES = ("latency_ratio", "instruction_ratio")  # what `prune` reports where it has measured what is left


@dataclass(frozen=True, slots=True)
class Level:
    """Hold a level: the step after which a run stops there, None for all; and the Keras model that counts, a NAME."""

    name: LevelName
    until: str | None
    named: str


@dataclass(frozen=True, slots=True)
class Levels:
    """Hold the levels of a recipe, the cheapest first, and the id of the last step that prunes."""

    levels: tuple[Level, ...]
    prune: str

    @property
    def before_files(self) -> Level:
        """Return the highest level that exports nothing."""
        return self.levels[-2]

    @property
    def trains(self) -> bool:
        """Return whether there is something between re-fitting and exporting."""
        return len(self.levels) == 3


def levels_of(recipe: Recipe) -> Levels:
    """Return the levels of a recipe; RecipeError if it prunes nothing or exports nothing."""
    steps = recipe.steps
    prunes = [step for step in steps if step.stage == PRUNE]
    if not prunes:
        what = "a search varies how much is pruned, and the recipe prunes nothing"
        raise RecipeError(what, where=recipe.source.where(("stages",)), hint="add `- prune: {macs: 0.5}`")
    models = [step for step in steps if "keras-model" in stages()[step.stage].outputs]
    after = models[models.index(prunes[-1]) :]
    trained = [step for step in after if isinstance(stages()[step.stage], TreatsControl)]
    fitted = after[: after.index(trained[0])] if trained else after
    found = [Level("fitted", fitted[-1].id, fitted[-1].id)]
    if trained:
        found.append(Level("trained", trained[-1].id, trained[-1].id))
    return Levels((*found, Level("measured", None, found[-1].named)), prunes[-1].id)


def accuracy_of(metrics: Mapping[str, float], named: str) -> float | None:
    """Return the accuracy of a model or file, if it was measured."""
    return metrics.get(f"{named}.{ACCURACY}")


def yardstick_of(metrics: Mapping[str, float]) -> float | None:
    """Return the better accuracy of the source and the control: what both were is what a user has without pruning."""
    found = [accuracy_of(metrics, name) for name in (SOURCE, CONTROL)]
    known = [accuracy for accuracy in found if accuracy is not None]
    return max(known) if known else None


def share_left(metrics: Mapping[str, float], levels: Levels) -> float | None:
    """Return what is left of the source's cost: what pruning measured, else the share of the MACs."""
    for share in SHARES:
        if f"{levels.prune}.{share}" in metrics:
            return metrics[f"{levels.prune}.{share}"]
    left, whole = (metrics.get(f"{name}.{MACS.name}") for name in (levels.prune, SOURCE))
    return left / whole if left is not None and whole else None
