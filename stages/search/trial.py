"""Hold what a candidate of a search is and what it has reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Literal

from pydantic import Field

from pipeline.records.manifest import RunManifest
from pipeline.records.values import Json, Value
from stages.search.goal import Goal
from stages.search.levels import LevelName, accuracy_of

Ended = Literal["running", "pruned", "failed", "done"]


class Reached(Value):
    """Hold what a candidate is at a level: accuracy, how much less that is than the yardstick's, and what it costs.

    `share` is the part of the source's cost that is left, as far as pruning tells.
    """

    level: LevelName
    accuracy: float | None
    drop: float | None
    share: float | None
    wall_s: float


class FileFigures(Value):
    """Hold what an exported file reached: the goal's cost, its accuracy, and the metrics that the goal bounds."""

    axis: str
    cost: float
    accuracy: float | None
    drop: float | None
    bounded: dict[str, float] = Field(default_factory=dict)

    def keeps(self, goal: Goal) -> bool:
        """Return whether the file meets all bounds of the goal."""
        dropped = goal.max_drop is not None and (self.drop is None or self.drop > goal.max_drop)
        return not dropped and self.within(goal.limits)

    def within(self, limits: Mapping[str, float]) -> bool:
        """Return whether no metric of the file that was measured is above its limit."""
        return all(self.bounded.get(name, limit) <= limit for name, limit in limits.items())


class Trial(Value):
    """Hold a candidate: the settings in which it differs from the recipe, why it was tried, and what came of it."""

    number: int
    settings: dict[str, Json]
    why: Literal["levels", "border", "gaps", "explored", "unpruned"]
    reached: tuple[Reached, ...] = ()
    files: tuple[FileFigures, ...] = ()
    run_id: str | None = None
    ended: Ended = "running"
    reason: str = ""

    def at(self, level: LevelName) -> Reached | None:
        """Return what it reached at a level; None if it has not got there."""
        return next((reached for reached in self.reached if reached.level == level), None)

    def against(self, yardstick: float | None) -> Trial:
        """Return the same with what its files lost against another accuracy."""
        files = [file.model_copy(update={"drop": dropped(file.accuracy, yardstick)}) for file in self.files]
        return self.model_copy(update={"files": tuple(files)})

    @property
    def best_known(self) -> Reached | None:
        """Return what it reached at its highest level."""
        return self.reached[-1] if self.reached else None


def figures_of(manifest: RunManifest, goal: Goal, yardstick: float | None) -> tuple[FileFigures, ...]:
    """Return what the files of a whole run reached, in the order of the recipe: those whose cost was measured."""
    found = []
    for axis, cost in _costs(manifest.metrics, goal).items():
        accuracy = accuracy_of(manifest.metrics, axis)
        bounded = {limit: manifest.metrics[name] for limit, name in _bounded(manifest.metrics, goal, axis)}
        found.append(
            FileFigures(axis=axis, cost=cost, accuracy=accuracy, drop=dropped(accuracy, yardstick), bounded=bounded)
        )
    return tuple(found)


def dropped(accuracy: float | None, yardstick: float | None) -> float | None:
    """Return by how much an accuracy is below the yardstick; None if either was not measured."""
    return None if accuracy is None or yardstick is None else yardstick - accuracy


def _costs(metrics: Mapping[str, float], goal: Goal) -> dict[str, float]:
    """Return the goal's cost of each file by its place on the axes, or of the one that the goal names."""
    end = f"@{goal.target}.{goal.cost.name}" if goal.target else f".{goal.cost.name}"
    named = {name.removesuffix(end): value for name, value in metrics.items() if name.endswith(end)}
    axes = (axis for axis in named if "/" in axis and "@" not in axis and not axis.startswith("source"))
    return {axis: named[axis] for axis in axes if goal.axis in (None, axis)}


def _bounded(metrics: Mapping[str, float], goal: Goal, axis: str) -> Iterable[tuple[str, str]]:
    for limit in goal.limits:
        names = [
            f"{axis}.{limit}",
            *(name for name in metrics if name.startswith(f"{axis}@") and name.endswith(f".{limit}")),
        ]
        yield from ((limit, name) for name in names if name in metrics)


def pairs_of(trials: Iterable[Trial], lower: LevelName, higher: LevelName) -> list[tuple[Reached, Reached]]:
    """Return what candidates reached at two levels, of those that got to both."""
    both = ((trial.at(lower), trial.at(higher)) for trial in trials)
    return [(low, high) for low, high in both if low is not None and high is not None]


def expected_s(trial: Trial, trials: Iterable[Trial], level: LevelName) -> float | None:
    """Return how many seconds a level will take a candidate, by the others and its epochs; None if none got there."""
    paces = [reached.wall_s / epochs_of(other) for other in trials if (reached := other.at(level)) is not None]
    return median(paces) * epochs_of(trial) if paces else None


def fitting(candidates: Sequence[Trial], trials: Sequence[Trial], level: LevelName, left_s: float) -> int:
    """Return how many candidates, in their order, can be brought to a level in so many seconds, one after another."""
    for number, trial in enumerate(candidates):
        left_s -= expected_s(trial, trials, level) or 0.0
        if left_s < 0:
            return number
    return len(candidates)


def epochs_of(trial: Trial) -> float:
    """Return how long a candidate is trained, in epochs where its settings say so."""
    said = [float(value) for key, value in trial.settings.items() if key.endswith(".epochs") and isinstance(value, int)]
    return sum(said) or 1.0


def smoothed_drops(trials: Sequence[Trial], level: LevelName) -> dict[int, float]:
    """Return the expected drop of each trial that got to a level, by its number.

    A validation split of some hundred samples tells drops apart by a point or two, so that the best of many trials is
    mostly the luckiest. What is left of the network explains most of the drop, and more of it never hurts: the monotone
    curve through all trials takes the luck out. The expected drop is halfway between the trial's own and the curve's.
    """
    from scipy.optimize import isotonic_regression

    found = [(trial, reached) for trial in trials if (reached := trial.at(level)) is not None]
    known = sorted(
        ((reached.share, reached.drop, trial.number) for trial, reached in found if reached.drop is not None),
        key=lambda entry: (entry[0] or 1.0, entry[2]),
    )
    if not known:
        return {}
    curve = isotonic_regression([drop for _, drop, _ in known], increasing=False).x
    return {number: float(drop + smooth) / 2 for (_, drop, number), smooth in zip(known, curve, strict=True)}
