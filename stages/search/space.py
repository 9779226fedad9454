"""Say which settings of a recipe vary, and how: what the user says, else what is worth varying in any recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.search_spec import Interval, SearchSpec
from pipeline.recipe.steps import StageStep
from pipeline.records.values import Json
from stages.devices.target import find_target
from stages.prune.config import PruneConfig
from stages.prune.weighing.report import LEAST_LEFT, MOST_LEFT
from stages.search.goal import Goal
from stages.search.levels import Levels

Dimension = tuple[Any, ...] | Interval
MEASURES = ("macs", "params", "bytes", "latency", "instructions")
SEARCH_AT = 0.5  # of what can go: one search serves all candidates that prune alike
BY_LOSS = ("obs", "taylor", "hessian")  # criteria that predict a loss, with scope: loss
NEEDS_LABELS = ("taylor",)


@dataclass(frozen=True, slots=True)
class Space:
    """Hold what varies. `budget` is the setting that says how much is left, the rest are the other `dimensions`.

    `fixed` are settings of every candidate that differ from the recipe; `usual` what the recipe says where a dimension
    does not say otherwise.
    """

    budget: str
    bounds: Interval
    dimensions: Mapping[str, Dimension]
    fixed: Mapping[str, Json]
    usual: Mapping[str, Json]


def space_of(recipe: Recipe, spec: SearchSpec, goal: Goal, levels: Levels) -> Space:
    """Return the space of a search; RecipeError if the user's own space can't say how much is pruned."""
    prune = next(step for step in recipe.steps if step.id == levels.prune)
    path = f"stages.{prune.id}"
    own = dict(spec.space)
    if f"{path}.ratio" in own:
        where = recipe.source.where(("search", "space", f"{path}.ratio"))
        what = "a ratio says how many channels go, and a search needs to know how much is left"
        raise RecipeError(what, where=where, hint=f"write {path}.macs: {{low: 0.2, high: 0.9}}")
    named = [f"{path}.{measure}" for measure in MEASURES if f"{path}.{measure}" in own]
    if len(named) > 1:
        where = recipe.source.where(("search", "space", named[1]))
        raise RecipeError(f"{named[0]} and {named[1]} say the same thing", where=where, hint="keep one of them")
    if named:
        bounds = own.pop(named[0])
        if not isinstance(bounds, Interval):
            where = recipe.source.where(("search", "space", named[0]))
            raise RecipeError(f"{named[0]} needs bounds", where=where, hint="write {low: 0.2, high: 0.9}")
        # As real numbers, whatever is written: bisection and the sampler go between whole ones.
        bounds = Interval(low=float(bounds.low), high=float(bounds.high))
        budget, fixed = named[0], _without_others(prune, path, named[0])
    else:
        measure, extra = _measure(recipe, goal)
        budget, bounds = f"{path}.{measure}", Interval(low=LEAST_LEFT, high=MOST_LEFT)
        fixed = _without_others(prune, path, budget) | {f"{path}.{key}": value for key, value in extra.items()}
    fixed |= _search_once(prune, path, own)
    dimensions = own if spec.space else _worth_varying(recipe, prune, path)
    return Space(budget, bounds, dimensions, fixed, {key: _said(recipe, key) for key in dimensions})


def _without_others(prune: StageStep, path: str, kept: str) -> dict[str, Json]:
    """Return settings that take other ways to say how much is pruned out of the recipe."""
    config = prune.config
    said = [name for name in (*MEASURES, "ratio") if getattr(config, name, None) is not None]
    fixed: dict[str, Json] = {f"{path}.{name}": None for name in said if f"{path}.{name}" != kept}
    fixed |= {f"{path}.{name}": {} for name in ("layers", "thresholds") if getattr(config, name, None)}
    return fixed


def _search_once(prune: StageStep, path: str, own: Mapping[str, Dimension]) -> dict[str, Json]:
    """Return the setting with which candidates share one search; nothing where there is none, or the user varies it."""
    config, varies = prune.config, {f"{path}.{name}" for name in ("scope", "search", "search_at")} & own.keys()
    if varies or not isinstance(config, PruneConfig) or config.scope != "loss" or not config.search:
        return {}
    return {} if config.search_at is not None else {f"{path}.search_at": SEARCH_AT}


def _measure(recipe: Recipe, goal: Goal) -> tuple[str, dict[str, Json]]:
    """Return what the budget counts, and what else `prune` must be told.

    Instructions are counted exactly, so they are met on the target. Times of a target vary: MACs come near enough to
    rank candidates, and files are measured at the end.
    """
    if goal.target is not None and find_target(goal.target, recipe.folder).counts and goal.cost.name == "instructions":
        file_format, _, scheme = (goal.axis or "tflite/int8").partition("/")
        return "instructions", {"measure_on": {"target": goal.target, "format": file_format, "scheme": scheme}}
    return ("bytes" if goal.cost.name == "size_bytes" else "macs"), {}


def _worth_varying(recipe: Recipe, prune: StageStep, path: str) -> dict[str, Dimension]:
    """Return what any recipe can gain by: which channels go, in which steps, and how training goes."""
    found: dict[str, Dimension] = {}
    criterion = getattr(prune.config, "criterion", None)
    if criterion in BY_LOSS:
        unlabelled = recipe.data is None or recipe.data.unlabelled
        found[f"{path}.criterion"] = tuple(name for name in BY_LOSS if not (unlabelled and name in NEEDS_LABELS))
    if isinstance(getattr(prune.config, "round_to", None), int):
        found[f"{path}.round_to"] = (1, 4, 8)
    for step in recipe.steps:
        if step.stage == "finetune":
            config, own = step.config, f"stages.{step.id}"
            epochs, rate = int(getattr(config, "epochs", 1)), float(getattr(config, "learning_rate", 1e-3))
            found[f"{own}.epochs"] = (epochs, 2 * epochs, 4 * epochs)
            found[f"{own}.learning_rate"] = tuple(rate * factor for factor in (0.5, 1.0, 2.0))
            if getattr(config, "distill", None) is not None and not (recipe.data is None or recipe.data.unlabelled):
                found[f"{own}.distill.weight"] = (0.5, 0.8, 1.0)
    return found


def _said(recipe: Recipe, key: str) -> Json:
    """Return what the recipe says at a setting's path, defaults filled in; None if it says nothing."""
    first, *rest = key.split(".")
    if first != "stages" or not rest:
        node: Any = recipe.source.data.get(first)
    else:
        steps = [step for step in recipe.steps if step.id == rest[0] or (step.stage == rest[0])]
        node, rest = (steps[0].config.model_dump(mode="json") if steps else None), rest[1:]
    for part in rest:
        node = node.get(part) if isinstance(node, dict) else None
    return node
