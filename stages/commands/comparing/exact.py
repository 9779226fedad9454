"""Compare the metrics of a pair that need no rounds: sizes, counts of a target, accuracies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import DeviceError
from pipeline.records.metrics import Metric
from stages.commands.comparing.compared import SHARE, change_of, compared, unit_of
from stages.commands.comparing.operands import Model
from stages.commands.comparing.pairing import Pair
from stages.commands.comparing.result import MetricResult, Verdict
from stages.commands.comparing.tolerances import Tolerances

if TYPE_CHECKING:
    from stages.devices.counts import Counts
    from stages.devices.target import Target


def exact_result(name: str, baseline: float, candidate: float, tolerance: float | None) -> MetricResult:
    """Judge an exact number: worse by more than the tolerance, or not."""
    metric = compared()[name]
    change = change_of(metric, baseline, candidate)
    return MetricResult(
        metric=name,
        unit=unit_of(metric),
        baseline=baseline,
        candidate=candidate,
        change=change,
        tolerance=tolerance,
        verdict=None if tolerance is None else "regression" if _above(change, tolerance) else "ok",
    )


def _above(change: float, tolerance: float) -> bool:
    """Return whether a change exceeds the tolerance, apart from rounding in the division."""
    return change > tolerance + 1e-12


def not_comparable(pair: Pair, metric: str) -> str | None:
    """Return why the accuracies (or mean squared errors) of two models can't be compared, or None."""
    for model in (pair.baseline, pair.candidate):
        if metric not in model.quality:
            return f"{metric} of {model.label} is not known"
    if pair.baseline.tested_on != pair.candidate.tested_on:
        return f"{metric} is of different test data on both sides"
    return None


def count_results(
    pair: Pair, target: Target, tolerances: Tolerances, held: frozenset[str], shapes: Sequence[str] = ()
) -> tuple[list[MetricResult], tuple[str, ...]]:
    """Return what a target counts for both sides, and its notes. DeviceError if it can't."""
    baseline, candidate = (_counted(target, side, model, shapes) for side, model in _sides(pair).items())
    counts, results = (baseline, candidate), []
    notes = [f"{side}: {note}" for side, counted in zip(_sides(pair), counts, strict=True) for note in counted.notes]
    apart = baseline.left_out != candidate.left_out
    for metric in target.metrics:
        name = metric.judged_as
        if name is None or metric.name not in baseline.metrics or metric.name not in candidate.metrics:
            continue
        tolerance = tolerances.of(name) if name in held else None
        if metric.unit == SHARE:
            results.append(_placement_result(metric, counts, target, tolerance))
        elif apart and metric.name == candidate.main:
            notes.append(f"{name} are not compared: each side's leave out other operators")
        else:
            results.append(_count_result(metric, counts, target, tolerance))
    return results, tuple(dict.fromkeys(notes))


def _sides(pair: Pair) -> dict[str, Model]:
    return {"baseline": pair.baseline, "candidate": pair.candidate}


def _counted(target: Target, side: str, model: Model, shapes: Sequence[str]) -> Counts:
    from stages.devices.target import count

    return count(target, model.path, f"{side} {model.title}", shapes)


def _placement_result(
    metric: Metric, counts: tuple[Counts, Counts], target: Target, tolerance: float | None
) -> MetricResult:
    """Judge the share of a model that runs on its accelerator: less is worse if operators left the accelerator.

    A share also falls if a model has fewer layers but the same ones stay on the CPU: that is not worse.
    """
    baseline, candidate = counts
    left = Counter(candidate.left_out) - Counter(baseline.left_out)
    before, after = (counted.metrics[metric.name] for counted in counts)
    change = change_of(metric, before, after)
    verdict: Verdict | None = None
    if tolerance is not None:
        verdict = "ok" if not left else "regression" if _above(change, tolerance) else "inconclusive"
    return MetricResult(
        metric=str(metric.judged_as),
        target=target.name,
        unit=unit_of(metric),
        baseline=before,
        candidate=after,
        change=change,
        tolerance=tolerance,
        verdict=verdict,
        reason=_left_why(left, candidate.notes) if left else None,
        estimated=candidate.estimated,
    )


def _left_why(left: Iterable[str], notes: Sequence[str]) -> str:
    """Say which kinds of operators left the accelerator, and why according to its compiler."""
    why = [note for note in notes if note.partition(" ")[0].rstrip(":") in left]
    return "; ".join([f"{', '.join(left)} left the accelerator", *why])


def _count_result(
    metric: Metric, counts: tuple[Counts, Counts], target: Target, tolerance: float | None
) -> MetricResult:
    """Judge a count with an interval as wide as two counts of one model differ on this target; none if they don't."""
    baseline, candidate = counts
    if baseline.runtime != candidate.runtime:
        raise DeviceError(f"{baseline.runtime} and {candidate.runtime} count differently", where=target.name)
    before, after = (counted.metrics[metric.name] for counted in counts)
    change = change_of(metric, before, after)
    spread = baseline.spread + candidate.spread if metric.name == candidate.main else 0.0
    low, high = (1 + change) * (1 - spread) - 1, (1 + change) * (1 + spread) - 1
    verdict: Verdict | None = None
    if tolerance is not None:
        verdict = "regression" if _above(low, tolerance) else "inconclusive" if _above(high, tolerance) else "ok"
    return MetricResult(
        metric=str(metric.judged_as),
        target=target.name,
        unit=unit_of(metric),
        baseline=before,
        candidate=after,
        change=change,
        interval=(low, high) if spread else None,
        tolerance=tolerance,
        verdict=verdict,
        reason=f"counts of one model differ by {spread:.0e} here" if verdict == "inconclusive" else None,
        estimated=candidate.estimated,
    )
