"""Say which settings of a recipe vary, and how: what the user says, else what is worth varying in any recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.search_spec import Interval, SearchSpec
from pipeline.recipe.steps import StageStep
from pipeline.records.values import Json
from stages.devices.target import find_target
from stages.formats.format import MakesProbes
from stages.formats.probe import ProbeScheme
from stages.formats.registry import formats
from stages.prune.config import PruneConfig
from stages.quantize.config import QuantizeConfig
from stages.search.candidates import Candidate
from stages.search.goal import Goal
from stages.search.levels import Levels

Dimension = tuple[Any, ...] | Interval
MEASURES = ("macs", "params", "bytes", "latency", "instructions")
LEAST_LEFT, MOST_LEFT = 0.1, 0.95
LEAST_LATENCY = 0.2
NEAR_ENOUGH = 1.0  # of what is asked for: what is left is measured, and counts, however near it is
SEARCH_AT = 0.5  # of what can go: one search of distributions serves all candidates where none is trained
BY_LOSS = ("obs", "taylor", "hessian")  # criteria that predict a loss, with scope: loss
NEEDS_LABELS = ("taylor",)
ROUND_TO = (1, 4, 8)
TEACHER_WEIGHTS = (0.5, 0.8, 1.0)


@dataclass(frozen=True, slots=True)
class Space:
    """Hold what varies. `budget` is the setting that says how much is left, the rest are the other `dimensions`.

    `fixed` are settings of every candidate that differ from the recipe; `usual` what the recipe says of the dimensions,
    or what they have instead of it.
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
        budget, extra = named[0], dict[str, Json]()
    else:
        measure, extra = _measure(recipe, goal)
        budget, bounds = f"{path}.{measure}", Interval(low=LEAST_LEFT, high=MOST_LEFT)
    dimensions = own if spec.space else _worth_varying(recipe, prune, path)
    fixed = _fixed(prune, budget, extra) | _search_once(prune, dimensions, levels)
    usual = {key: _within(dimension, _said(recipe, key)) for key, dimension in dimensions.items()}
    return Space(budget, bounds, dimensions, fixed, usual)


def on_device(space: Space, recipe: Recipe, goal: Goal, levels: Levels, axis: str) -> Space:
    """Return the space with latency as its budget, measured in the file of a format and scheme.

    Channels go by measured costs of layers, and each pruned network is exported and measured once. The space is
    returned as it is where the user said what the budget counts, or layers of such files can't be probed.
    """
    file_format, _, scheme = axis.partition("/")
    prune = next(step for step in recipe.steps if step.id == levels.prune)
    path = f"stages.{prune.id}"
    said = recipe.search is not None and any(f"{path}.{measure}" in recipe.search.space for measure in MEASURES)
    how = _scheme_called(recipe, scheme)
    if said or not isinstance(formats()[file_format], MakesProbes) or how is None:
        return space
    budget = f"{path}.latency"
    on = {"target": goal.target, "format": file_format, **how}
    fixed = _fixed(prune, budget, {"measure_on": on, "tolerance": NEAR_ENOUGH})
    fixed |= _search_once(prune, space.dimensions, levels)
    return replace(space, budget=budget, bounds=Interval(low=LEAST_LATENCY, high=MOST_LEFT), fixed=fixed)


def _scheme_called(recipe: Recipe, name: str) -> dict[str, Json] | None:
    """Return how layers and networks are measured for a scheme of the recipe; None where they can't be."""
    variants = [step.config.variants for step in recipe.steps if isinstance(step.config, QuantizeConfig)]
    how = next((known[name] for known in variants if name in known), None)
    if how is None or how.scheme not in get_args(ProbeScheme):
        return None
    return {"scheme": how.scheme, **({"mixed": True} if how.faster_on else {})}


def in_brief(recipe: Recipe) -> dict[str, Json]:
    """Return settings with which a candidate costs about as much and is made fast: hardly trained, nothing searched."""
    brief: dict[str, Json] = {f"stages.{step.id}.epochs": 1 for step in recipe.steps if hasattr(step.config, "epochs")}
    for step in recipe.steps:
        if isinstance(step.config, PruneConfig) and step.config.scope == "loss":
            brief |= {f"stages.{step.id}.search": 0, f"stages.{step.id}.search_at": None}
    return brief


def check_values(space: Space, base: Candidate) -> None:
    """Raise RecipeError, at the setting in the recipe, if a value that can be proposed is not allowed."""
    usual = {**space.fixed, space.budget: space.bounds.high}
    for key, dimension in {space.budget: space.bounds, **space.dimensions}.items():
        for value in (dimension.low, dimension.high) if isinstance(dimension, Interval) else dimension:
            try:
                replace(base, settings={**usual, key: value}).recipe()
            except RecipeError as error:
                where = base.recipe().source.where(("search", "space", key))
                raise RecipeError(error.what, where=where, hint=error.hint) from error


def _fixed(prune: StageStep, budget: str, extra: Mapping[str, Json]) -> dict[str, Json]:
    """Return the settings of all candidates: `extra`, and nothing but the budget says how much is pruned."""
    path, config = f"stages.{prune.id}", prune.config
    said = [name for name in (*MEASURES, "ratio") if getattr(config, name, None) is not None]
    fixed: dict[str, Json] = {f"{path}.{name}": None for name in said if f"{path}.{name}" != budget}
    fixed |= {f"{path}.{name}": {} for name in ("layers", "thresholds") if getattr(config, name, None)}
    return fixed | {f"{path}.{name}": value for name, value in extra.items()}


def _search_once(prune: StageStep, dimensions: Mapping[str, Dimension], levels: Levels) -> dict[str, Json]:
    """Return the setting with which candidates share one search; nothing where the user says another, or varies it.

    Trained candidates search on their own: that finds better distributions, and takes little beside the training.
    """
    path, config = f"stages.{prune.id}", prune.config
    varies = any(f"{path}.{name}" in dimensions for name in ("scope", "search", "search_at"))
    if levels.trains or varies or not isinstance(config, PruneConfig) or config.scope != "loss" or not config.search:
        return {}
    return {} if config.search_at is not None else {f"{path}.search_at": SEARCH_AT}


def _measure(recipe: Recipe, goal: Goal) -> tuple[str, dict[str, Json]]:
    """Return what the budget counts, and what else `prune` must be told.

    Instructions are counted on the target. For a latency these are MACs until it is known in which file to measure it.
    """
    if goal.target is not None and find_target(goal.target, recipe.folder).counts and goal.cost.name == "instructions":
        file_format, _, scheme = (goal.axis or "tflite/int8").partition("/")
        on = {"target": goal.target, "format": file_format, "scheme": scheme}
        return "instructions", {"measure_on": on, "tolerance": NEAR_ENOUGH}
    return ("bytes" if goal.cost.name == "size_bytes" else "macs"), {}


def _worth_varying(recipe: Recipe, prune: StageStep, path: str) -> dict[str, Dimension]:
    """Return what any recipe can gain by: which channels go, in which steps, and how training goes."""
    found: dict[str, Dimension] = {}
    criterion = getattr(prune.config, "criterion", None)
    if criterion in BY_LOSS:
        unlabelled = recipe.data is None or recipe.data.unlabelled
        found[f"{path}.criterion"] = tuple(name for name in BY_LOSS if not (unlabelled and name in NEEDS_LABELS))
    if isinstance(own_step := getattr(prune.config, "round_to", None), int):
        found[f"{path}.round_to"] = tuple(sorted({*ROUND_TO, own_step}))
    for step in recipe.steps:
        if step.stage == "finetune":
            config, own = step.config, f"stages.{step.id}"
            epochs, rate = int(getattr(config, "epochs", 1)), float(getattr(config, "learning_rate", 1e-3))
            found[f"{own}.epochs"] = tuple(dict.fromkeys((max(1, epochs // 2), epochs, 2 * epochs)))
            found[f"{own}.learning_rate"] = tuple(rate * factor for factor in (0.3, 1.0, 2.0))
            distill = getattr(config, "distill", None)
            if distill is not None and not (recipe.data is None or recipe.data.unlabelled):
                found[f"{own}.distill.weight"] = tuple(sorted({*TEACHER_WEIGHTS, distill.weight}))
            if (mixup := getattr(config, "mixup", None)) is not None:
                found[f"{own}.mixup"] = (None, mixup)
    return found


def _within(dimension: Dimension, said: Json) -> Json:
    """Return what a recipe says if a dimension has it; else its nearest bound, or its first choice."""
    if not isinstance(dimension, Interval):
        return said if said in dimension else dimension[0]
    if isinstance(said, bool) or not isinstance(said, int | float):
        return dimension.low
    return min(max(said, dimension.low), dimension.high)


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
