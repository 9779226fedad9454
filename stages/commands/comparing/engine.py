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
class _Finding:
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
    findings = [_Finding(pair) for pair in pairs]
    for target in request.targets:
        if target.counts:
            _count(findings, target, request)
        elif (request.held | request.shown) & set(MEASURED):
            _measure(findings, target, request, listener)
        if device_fingerprint(target) != devices[target.name]:
            raise DeviceError(f"{target.name} became another device meanwhile", hint="compare again")
    for finding in findings:
        _exact(finding, request)
    results = tuple(_pair_result(finding) for finding in findings)
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


def _count(findings: Sequence[_Finding], target: Target, request: Request) -> None:
    if not request.held & set(metrics_on(target)):
        return
    for finding in findings:
        results, notes = count_results(finding.pair, target, request.tolerances, request.held, request.sampling.shapes)
        finding.metrics += results
        finding.notes += notes


def _measure(findings: Sequence[_Finding], target: Target, request: Request, listener: Listener) -> None:
    """Measure all pairs on one target: first the declared rounds for all, then more for undecided pairs."""
    from stages.devices.measurement import doubts
    from stages.devices.rounds import processes_of

    plan = Plan(target, request.sampling, request.rounds, request.tolerances, request.held, request.shown)
    with ExitStack() as stack:
        measuring = [
            stack.enter_context(
                Measuring(finding.pair, plan, ActionEvents(f"{finding.pair.name}@{target.name}", listener))
            )
            for finding in findings
        ]
        for measurement in measuring:
            measurement.measure(plan.rounds)
        # After the rounds of all pairs: with several, whether one is decided depends on the p-values of the others.
        undecided = [
            measurement for measurement, results in zip(measuring, judged(measuring), strict=True) if _open(results)
        ]
        for measurement in undecided:
            measurement.extend()
        for finding, measurement, results in zip(findings, measuring, judged(measuring), strict=True):
            finding.metrics += results
            finding.notes += doubts(processes_of(measurement.rounds))


def _open(results: Sequence[MetricResult]) -> bool:
    return any(result.verdict == "inconclusive" for result in results)


def judged(measuring: Sequence[Measuring]) -> list[list[MetricResult]]:
    """Judge all pairs; with several, a regression of latency must also be significant among all of them."""
    from stages.devices.statistics import significant

    if len(measuring) == 1 or not any("latency" in measurement.plan.held for measurement in measuring):
        return [measurement.results() for measurement in measuring]
    p_values = [measurement.p_value() for measurement in measuring]
    differ = significant(p_values)
    return [measurement.results(p, differs=d) for measurement, p, d in zip(measuring, p_values, differ, strict=True)]


def _require_named(results: Sequence[PairResult], request: Request) -> None:
    """Raise DeviceError if a named metric could not be measured: a missing result is not a passing one."""
    for pair in results:
        for metric in sorted((request.metrics or frozenset()) - {result.metric for result in pair.metrics}):
            why = "; ".join(pair.notes)
            if metric == "p99":
                why = "it takes 1,000 samples of each side: more --rounds, or more --seconds in each"
            raise DeviceError(f"there is no {metric} of {pair.name}", where=f"--metric {metric}", hint=why or None)


def _exact(finding: _Finding, request: Request) -> None:
    if SIZE_NAME in request.held:
        sizes = float(finding.pair.baseline.size_bytes), float(finding.pair.candidate.size_bytes)
        finding.metrics.append(exact_result(SIZE_NAME, *sizes, request.tolerances.of(SIZE_NAME)))
    for metric in (metric for metric in qualities() if metric in request.held):
        before, after = finding.pair.baseline.quality.get(metric), finding.pair.candidate.quality.get(metric)
        if before is None or after is None:
            continue
        why = not_comparable(finding.pair, metric)
        if why:
            finding.notes.append(f"{why}; --data RECIPE measures it")
        else:
            finding.metrics.append(exact_result(metric, before, after, request.tolerances.of(metric)))


def _pair_result(finding: _Finding) -> PairResult:
    sides: Mapping[str, Side] = {
        name: Side(name=model.label, digest=model.digest, size_bytes=model.size_bytes)
        for name, model in (("baseline", finding.pair.baseline), ("candidate", finding.pair.candidate))
    }
    order: dict[str | None, int] = {"regression": 0, "inconclusive": 1, "ok": 2, None: 3}
    metrics = sorted(finding.metrics, key=lambda result: order[result.verdict])
    notes = tuple(dict.fromkeys(finding.notes))
    return PairResult(name=finding.pair.name, metrics=tuple(metrics), notes=notes, **sides)
