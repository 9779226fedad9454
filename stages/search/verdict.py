"""Say which point of a front is the answer, or why there is none and what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.records.values import Json, Value
from stages.search.goal import Goal, points_of
from stages.search.measuring import Against
from stages.search.study import Found
from stages.search.trial import FileFigures, dropped


class FinalFigures(Value):
    """Hold a file's figures on test data: what it lost against the better of source and control, and its cost."""

    accuracy: float | None
    drop: float | None
    cost: float | None
    size_bytes: float | None
    against: Against | None


class Point(Value):
    """Hold one candidate of the answer, or the source unpruned, and the file of it that serves the goal best."""

    letter: str
    axis: str
    recipe: str
    settings: dict[str, Json]
    pruned: bool
    validation: FileFigures
    test: FinalFigures | None

    @property
    def costs_more(self) -> bool:
        """Return whether it is known to cost no less than the source's file."""
        against = self.test.against if self.test is not None else None
        return against is not None and against.ratio >= 1


def loss(file: FileFigures) -> float:
    """Return a file's drop as a number to order by: one that was not measured comes last."""
    return float("inf") if file.drop is None else file.drop


def chosen_of(points: Sequence[Point], goal: Goal, chance: float) -> Point | None:
    """Return the cheapest of the points that keep the goal and cost less than the source; None without a goal.

    Those that keep it with `chance` to spare come first.
    """
    keeping = [point for point in points if point.validation.keeps(goal) and not point.costs_more]
    likely = [point for point in keeping if _has_to_spare(point, goal, chance)]
    return (likely or keeping)[-1] if keeping and goal.max_drop is not None else None


def _has_to_spare(point: Point, goal: Goal, chance: float) -> bool:
    return goal.max_drop is None or loss(point.validation) + chance <= goal.max_drop


def verdict_of(found: Found, points: Sequence[Point], chosen: Point | None, untouched: Mapping[str, float]) -> str:
    """Say which point is the answer, or why there is none and what would help."""
    if found.goal.max_drop is None:
        return f"{len(points)} points of the front" if points else _failed(found)
    if chosen is None or not chosen.pruned:
        missed = _missed(found, [point for point in points if point.pruned], untouched, found.goal.max_drop)
        if chosen is None:
            return missed
        where = f"{chosen.letter}, the unpruned model in {chosen.axis}"
        return f"{where}, is the best within {points_of(found.goal.max_drop)}; a pruned one: {missed}"
    text = f"{chosen.letter} is the best within {points_of(found.goal.max_drop)}"
    spared = f"{100 * found.chance:.1f}"
    if _has_to_spare(chosen, found.goal, found.chance):
        text += f" with {spared} to spare for chance" if found.chance else ""
    else:
        text += f", by less than chance ({spared})"
    if chosen.test is None or chosen.test.drop is None:
        return text
    text += f" (test data, read once: {_change(chosen.test.drop)})"
    if chosen.test.drop > found.goal.max_drop:
        said = _change(chosen.validation.drop)
        text += f"; that is more than the goal, and validation data said {said}: more of them would tell better"
    return text


def _missed(found: Found, points: Sequence[Point], untouched: Mapping[str, float], max_drop: float) -> str:
    """Say why no pruned point is the answer, which one is nearest, and what would help."""
    if any(point.validation.keeps(found.goal) for point in points):
        return f"not reached: within {points_of(max_drop)} nothing costs less than the source"
    nearest = min(points, key=lambda point: loss(point.validation), default=None)
    near = f"; nearest: {nearest.letter} at {_change(nearest.validation.drop)}" if nearest else ""
    lost = dropped(found.control, found.source)
    if lost is not None and lost > max_drop:
        plain = min(untouched.values(), default=None)
        intact = "" if plain is None else f"; the source untouched loses {100 * plain:.1f} in its best file"
        help_ = "more training images or epochs, or a lower learning rate, would help"
        return (
            f"not reachable: the control itself loses {100 * lost:.1f} points with this training{intact}{near}; {help_}"
        )
    if not points and found.ran_out and not found.trials:
        return "not reached: the time ran out before a candidate was trained; more minutes would help"
    if not points:
        return _failed(found)
    cause = "the time ran out" if found.ran_out else f"{len(found.trials)} candidates were tried"
    return f"not reached: {cause}{near}; more trials, more epochs or a larger drop would help"


def _failed(found: Found) -> str:
    reason = next((trial.reason for trial in (*found.finalists, *found.trials) if trial.reason), "no file was measured")
    return f"not reached: {reason}"


def _change(drop: float | None) -> str:
    return "unknown" if drop is None else f"{-100 * drop:+.1f} points"
