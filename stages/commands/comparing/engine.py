"""Run a whole comparison: every pair on every target, more rounds where needed, one verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.contracts.events import ActionEvents, Listener, silent
from pipeline.errors import DeviceError, RecipeError
from pipeline.records.metrics import SIZE
from stages.commands.comparing.compared import compared, qualities
from stages.commands.comparing.exact import count_results, exact_result, not_comparable
from stages.commands.comparing.fitness import require_fit
from stages.commands.comparing.measured import MEASURED, Measuring, Plan
from stages.commands.comparing.operands import Operand
from stages.commands.comparing.pairing import Pair, pairs_of
from stages.commands.comparing.result import ComparisonReport, MetricResult, PairResult, Side, worst
from stages.commands.comparing.tolerances import Tolerances

if TYPE_CHECKING:
    from stages.devices.target import Sampling, Target

SIZE_NAME = str(SIZE.judged_as)


@dataclass(frozen=True)
class Request:
    """Hold the request. `metrics` are those that get a verdict, all others are left out; None means the defaults."""

    targets: Sequence[Target]
    sampling: Sampling
    rounds: int
    tolerances: Tolerances
    metrics: frozenset[str] | None = None
    data: Path | None = None

    @property
    def held(self) -> frozenset[str]:
        """Return the metrics that get a verdict."""
        return frozenset(n for n, m in compared().items() if not m.noisy) if self.metrics is None else self.metrics

    @property
    def shown(self) -> frozenset[str]:
        """Return those that are only shown: they differ between processes by more than any tolerance."""
        return frozenset(n for n, m in compared().items() if m.noisy) if self.metrics is None else frozenset()

    def check(self, pairs: Sequence[Pair]) -> None:
        """Raise RecipeError if a target can't give what is requested, before anything is measured."""
        possible = {SIZE_NAME, *qualities()} | {metric for target in self.targets for metric in metrics_on(target)}
        for metric in sorted(self.metrics or ()):
            if metric not in possible:
                named = ", ".join(target.name for target in self.targets)
                hint = f"it gives {', '.join(sorted(possible))}; secateur target list"
                raise RecipeError(f"{metric} is not measured on {named}", where=f"--metric {metric}", hint=hint)
        for target in self.targets:
            require_fit(target, (pair.candidate for pair in pairs), self.sampling)


def metrics_on(target: Target) -> tuple[str, ...]:
    """Return the metrics that a target gives."""
    names = (metric.judged_as for metric in target.metrics if metric.judged_as and metric != SIZE)
    return tuple(name for name in names if target.counts or name in MEASURED)


@dataclass
class _Found:
    """Hold what is known of a pair so far."""

    pair: Pair
    metrics: list[MetricResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(base: Operand, candidate: Operand, request: Request, listener: Listener = silent) -> ComparisonReport:
    """Measure and judge. RecipeError for what can't be compared, DeviceError for what can't be measured."""
    from stages.devices.target import device_fingerprint

    pairs, unpaired = pairs_of(base, candidate)
    request.check(pairs)
    devices = {target.name: device_fingerprint(target) for target in request.targets}
    pairs = _with_quality(pairs, request, listener)
    _require_quality(pairs, request)
    found = [_Found(pair) for pair in pairs]
    for target in request.targets:
        if target.counts:
            _count(found, target, request)
        elif (request.held | request.shown) & set(MEASURED):
            _measure(found, target, request, listener)
        if device_fingerprint(target) != devices[target.name]:
            raise DeviceError(f"{target.name} became another device meanwhile", hint="compare again")
    for one in found:
        _exact(one, request)
    results = tuple(_pair_result(one) for one in found)
    _require_named(results, request)
    verdict = worst(held.verdict for pair in results for held in pair.held())
    return ComparisonReport(
        base=base.name,
        candidate=candidate.name,
        devices=devices,
        pairs=results,
        unpaired=tuple(unpaired),
        verdict=verdict,
    )


def _with_quality(pairs: Sequence[Pair], request: Request, listener: Listener) -> list[Pair]:
    if request.data is None or not request.held & set(qualities()):
        return list(pairs)
    from stages.commands.comparing.quality import labelled_test_data, with_quality

    split = labelled_test_data(request.data)
    return [with_quality(pair, split, ActionEvents(pair.name, listener)) for pair in pairs]


def _require_quality(pairs: Sequence[Pair], request: Request) -> None:
    """Raise RecipeError if accuracy is requested by name but unknown for both sides on the same data."""
    for metric in sorted((request.metrics or frozenset()) & set(qualities())):
        for pair in pairs:
            why = not_comparable(pair, metric)
            if why:
                raise RecipeError(why, where=f"--metric {metric}", hint="--data RECIPE measures it on both sides")


def _count(found: Sequence[_Found], target: Target, request: Request) -> None:
    if not request.held & set(metrics_on(target)):
        return
    for one in found:
        results, notes = count_results(one.pair, target, request.tolerances, request.held, request.sampling.shapes)
        one.metrics += results
        one.notes += notes


def _measure(found: Sequence[_Found], target: Target, request: Request, listener: Listener) -> None:
    """Measure all pairs on one target: first the declared rounds for all, then more for undecided pairs."""
    from stages.devices.measurement import doubts
    from stages.devices.rounds import processes_of

    plan = Plan(target, request.sampling, request.rounds, request.tolerances, request.held, request.shown)
    with ExitStack() as stack:
        measuring = [
            stack.enter_context(Measuring(one.pair, plan, ActionEvents(f"{one.pair.name}@{target.name}", listener)))
            for one in found
        ]
        for one in measuring:
            one.measure(plan.rounds)
        undecided = [one for one, results in zip(measuring, judged(measuring), strict=True) if _open(results)]
        for one in undecided:
            one.extend()
        for known, one, results in zip(found, measuring, judged(measuring), strict=True):
            known.metrics += results
            known.notes += doubts(processes_of(one.rounds))


def _open(results: Sequence[MetricResult]) -> bool:
    return any(found.verdict == "inconclusive" for found in results)


def judged(measuring: Sequence[Measuring]) -> list[list[MetricResult]]:
    """Judge all pairs; with several, a regression of latency must also be significant among all of them."""
    from stages.devices.statistics import significant

    if len(measuring) == 1 or not any("latency" in one.plan.held for one in measuring):
        return [one.results() for one in measuring]
    p_values = [one.p_value() for one in measuring]
    differ = significant(p_values)
    return [one.results(p, differs=d) for one, p, d in zip(measuring, p_values, differ, strict=True)]


def _require_named(results: Sequence[PairResult], request: Request) -> None:
    """Raise DeviceError if a named metric could not be measured: a missing result is not a passing one."""
    for pair in results:
        for metric in sorted((request.metrics or frozenset()) - {found.metric for found in pair.metrics}):
            why = "; ".join(pair.notes)
            if metric == "p99":
                why = "it takes 1,000 samples of each side: more --rounds, or more --seconds in each"
            raise DeviceError(f"there is no {metric} of {pair.name}", where=f"--metric {metric}", hint=why or None)


def _exact(one: _Found, request: Request) -> None:
    if SIZE_NAME in request.held:
        sizes = float(one.pair.baseline.size_bytes), float(one.pair.candidate.size_bytes)
        one.metrics.append(exact_result(SIZE_NAME, *sizes, request.tolerances.of(SIZE_NAME)))
    for metric in (metric for metric in qualities() if metric in request.held):
        before, after = one.pair.baseline.quality.get(metric), one.pair.candidate.quality.get(metric)
        if before is None or after is None:
            continue
        why = not_comparable(one.pair, metric)
        if why:
            one.notes.append(f"{why}; --data RECIPE measures it")
        else:
            one.metrics.append(exact_result(metric, before, after, request.tolerances.of(metric)))


def _pair_result(one: _Found) -> PairResult:
    sides: Mapping[str, Side] = {
        name: Side(name=model.label, digest=model.digest, size_bytes=model.size_bytes)
        for name, model in (("baseline", one.pair.baseline), ("candidate", one.pair.candidate))
    }
    order: dict[str | None, int] = {"regression": 0, "inconclusive": 1, "ok": 2, None: 3}
    metrics = sorted(one.metrics, key=lambda found: order[found.verdict])
    notes = tuple(dict.fromkeys(one.notes))
    return PairResult(name=one.pair.name, metrics=tuple(metrics), notes=notes, **sides)
