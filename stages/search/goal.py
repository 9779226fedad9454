"""Say what a search looks for: a cost to be low, an accuracy to be high, and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import RecipeError
from pipeline.planning.wiring import build_chain
from pipeline.recipe.errors import nearest
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.search_spec import SearchSpec
from pipeline.records.declared import every_metric
from pipeline.records.metrics import SIZE, Metric, name_and_metric
from stages.devices.target import find_target

DROP = "accuracy_drop"
ACCURACY = "accuracy"
ONE_POINT = 0.01  # is one point
ALIASES = {"latency_ms": "latency_p50_ms"}


@dataclass(frozen=True, slots=True)
class Goal:
    """Hold what the best candidate is.

    `cost` is the metric of an exported file that is to be low; `axis` the file it is of, such as `tflite/int8`, None
    for whichever file is best; `target` where it is measured, None for what needs no device, such as a size. `max_drop`
    is how much accuracy may be lost, as a share; `limits` the most of other metrics of that file.
    """

    cost: Metric
    axis: str | None
    target: str | None
    max_drop: float | None
    limits: Mapping[str, float]

    def __str__(self) -> str:
        where = f" on {self.target}" if self.target else ""
        whose = f" of {self.axis}" if self.axis else ""
        bound = "" if self.max_drop is None else f"at most {points_of(self.max_drop)} lost, "
        bounds = "".join(f"{name} at most {limit:g}, " for name, limit in self.limits.items())
        return f"{bound}{bounds}least {self.cost.name}{whose}{where}"


def points_of(drop: float) -> str:
    """Format a share of accuracy in points: `1 point`."""
    return f"{100 * drop:g} point{'' if drop == ONE_POINT else 's'}"


def goal_of(recipe: Recipe, spec: SearchSpec) -> Goal:
    """Return the goal; RecipeError, located in the recipe, if it names what nothing in it makes or measures."""
    axes, targets = files_and_targets(recipe)
    costs = [name for name in spec.objectives if name.rpartition(".")[2] != ACCURACY]
    if len(costs) > 1 or len(spec.objectives) - len(costs) > 1:
        raise _wrong(recipe, "objectives", "objectives are one cost and one accuracy, each at most once")
    limits = {name: limit for name, limit in spec.constraints.items() if name != DROP}
    for name in limits:
        _metric(recipe, name, ("constraints", name))
    name, metric_name = name_and_metric(costs[0]) if costs else ("", "")
    metric_name = metric_name or "".join(costs)
    axis, _, target = name.partition("@")
    target = target or next(iter(targets), "")
    if axis and axis not in axes:
        raise _wrong(recipe, "objectives", f"no file of this recipe is {axis!r}", nearest(axis, axes))
    if target and target not in targets:
        hint = nearest(target, targets) if targets else "add `- benchmark: {targets: [cpu]}` to the stages"
        raise _wrong(recipe, "objectives", f"this recipe does not measure on {target!r}", hint)
    cost = _metric(recipe, metric_name, ("objectives",)) if metric_name else _main(target, recipe)
    if cost.lower_is_better is not True:
        raise _wrong(recipe, "objectives", f"{cost.name} is no cost: less of it is not better")
    return Goal(cost, axis or None, (target or None) if cost.speed else None, spec.constraints.get(DROP), limits)


def files_and_targets(recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files that a recipe exports, such as `tflite/int8`, and the targets it measures on, in its order."""
    names = [name for name in build_chain(recipe).names() if "/" in name]
    axes = dict.fromkeys(name.partition("@")[0] for name in names)
    targets = dict.fromkeys(name.partition("@")[2] for name in names if "@" in name)
    return tuple(axes), tuple(targets)


def _metric(recipe: Recipe, name: str, path: tuple[str, ...]) -> Metric:
    known = every_metric()
    found = known.get(ALIASES.get(name, name))
    if found is None:
        where = recipe.source.where(("search", *path))
        low_is_good = [*ALIASES, SIZE.name, *(metric.name for metric in known.values() if metric.lower_is_better)]
        own = ACCURACY if path == ("objectives",) else DROP
        hint = nearest(name, [own, *dict.fromkeys(low_is_good)])
        raise RecipeError(f"no metric is called {name!r}", where=where, hint=hint)
    return found


def _main(target: str, recipe: Recipe) -> Metric:
    """Return what a target mainly measures; the size of files where nothing is measured."""
    return find_target(target, recipe.folder).metrics[0] if target else SIZE


def _wrong(recipe: Recipe, key: str, what: str, hint: str | None = None) -> RecipeError:
    return RecipeError(what, where=recipe.source.where(("search", key)), hint=hint)
