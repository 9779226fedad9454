"""Measure the metrics of a pair that need rounds of fresh processes, both sides here and now, in turns.

Measurements of an earlier run are never used as a baseline: another day is another machine. The number of rounds is
declared before the first: `rounds`, and once as many again if these are inconclusive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipeline.contracts.events import ActionEvents
from pipeline.errors import DeviceError
from stages.commands.comparing.compared import compared, unit_of
from stages.commands.comparing.pairing import Pair
from stages.commands.comparing.result import Evidence, MetricResult, Verdict
from stages.commands.comparing.tolerances import Tolerances

if TYPE_CHECKING:
    from stages.devices.measurement import Measurement
    from stages.devices.rounds import Round, Side
    from stages.devices.target import Sampling, Target

QUANTILES: Mapping[str, float] = {"latency": 0.5, "p90": 0.9, "p99": 0.99}  # latency is the median
MEASURED = (*QUANTILES, "first", "load", "memory")  # what every process measures, by the names of `compared`


@dataclass(frozen=True)
class Plan:
    """Say how to measure, and compared with what: `held` metrics get a verdict, `shown` ones do not."""

    target: Target
    sampling: Sampling
    rounds: int
    tolerances: Tolerances
    held: frozenset[str]
    shown: frozenset[str]


class Measuring:
    """Hold the rounds of one pair on one target so far; a context manager, since they are kept in a folder."""

    def __init__(self, pair: Pair, plan: Plan, events: ActionEvents) -> None:
        self.pair, self.plan = pair, plan
        self._events = events
        self._scratch = TemporaryDirectory(prefix="secateur-")
        self._rounds: tuple[Round, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()

    @property
    def extended(self) -> bool:
        return len(self._rounds) > self.plan.rounds

    @property
    def rounds(self) -> Sequence[Round]:
        return self._rounds

    def measure(self, count: int) -> None:
        """Measure up to `count` rounds, keeping existing ones. DeviceError if they fail, or can't be compared."""
        from stages.devices.rounds import Subject, measure_rounds

        pair, plan = self.pair, self.plan
        subjects: dict[Side, Subject] = {
            "baseline": Subject(pair.baseline.path, f"baseline {pair.baseline.title}"),
            "candidate": Subject(pair.candidate.path, f"candidate {pair.candidate.title}"),
        }
        folder = Path(self._scratch.name)
        self._rounds = measure_rounds(subjects, plan.target, count, plan.sampling, folder, self._events)
        check_rounds(self._rounds, f"{pair.name} on {plan.target.name}")

    def extend(self) -> None:
        """Extend once, by as many rounds again."""
        self.measure(2 * self.plan.rounds)

    def p_value(self) -> float:
        """Return the p-value of the latency, for judging it among other pairs."""
        from stages.devices.statistics import signed_rank_p

        return signed_rank_p(*self._sides("latency"))

    def results(self, p_value: float | None = None, *, differs: bool = True) -> list[MetricResult]:
        """Judge all requested metrics; the verdict on latency takes into account whether it `differs` among others."""
        from stages.devices.statistics import SAMPLES_FOR_P99

        wanted = [metric for metric in MEASURED if metric in self.plan.held | self.plan.shown]
        if self._samples() < SAMPLES_FOR_P99:
            wanted = [metric for metric in wanted if metric != "p99"]
        return [self._result(metric, p_value, differs=differs) for metric in wanted]

    def _samples(self) -> int:
        """Return the number of samples of the side that has fewer."""
        baseline = sum(len(done.baseline.samples_ns) for done in self._rounds)
        return min(baseline, sum(len(done.candidate.samples_ns) for done in self._rounds))

    def _result(self, metric: str, p_value: float | None, *, differs: bool) -> MetricResult:
        import numpy as np

        from stages.devices.statistics import latency_ratio, noise_floor, rounds_apart, verdict

        candidate, baseline = self._sides(metric)
        ratio, floor = latency_ratio(candidate, baseline), noise_floor(candidate, baseline)
        tolerance = self.plan.tolerances.of(metric)
        decision: Verdict | None = None
        if metric in self.plan.held:
            decision = verdict(ratio, tolerance, floor or 0.0, differs=differs or metric != "latency")
        ratios = np.asarray(candidate) / np.asarray(baseline)
        return MetricResult(
            metric=metric,
            target=self.plan.target.name,
            unit=unit_of(compared()[metric]),
            baseline=self._typical("baseline", metric, baseline),
            candidate=self._typical("candidate", metric, candidate),
            change=ratio.point - 1,
            interval=(ratio.low - 1, ratio.high - 1),
            tolerance=tolerance if decision else None,
            verdict=decision,
            reason=_reason(decision, tolerance, floor or 0.0, differs=differs),
            evidence=Evidence(
                rounds=len(self._rounds),
                extended=self.extended,
                noise_floor=floor,
                ratios=tuple(map(float, ratios)),
                apart=tuple(index + 1 for index in rounds_apart(candidate, baseline)),
                p_value=p_value if metric == "latency" else None,
            ),
        )

    def _typical(self, side: Side, metric: str, per_round: Sequence[float]) -> float:
        """Return what the table shows of one side: percentiles, the median load time, the largest peak memory."""
        import numpy as np

        from stages.benchmark.summary import quantile_ms

        if metric in QUANTILES:
            return quantile_ms(self._rounds, side, QUANTILES[metric])
        return float(max(per_round) if metric == "memory" else np.median(per_round))

    def _sides(self, metric: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the numbers of candidate and baseline, one per round."""
        candidate = tuple(_number(done.candidate, metric) for done in self._rounds)
        return candidate, tuple(_number(done.baseline, metric) for done in self._rounds)


def _number(process: Measurement, metric: str) -> float:
    """Return one process' number: nanoseconds, milliseconds or bytes; only ratios of them are used."""
    from stages.devices.statistics import latency_quantile_ns, round_medians_ns

    if metric == "latency":
        return round_medians_ns([process.samples_ns])[0]
    if metric in QUANTILES:
        return latency_quantile_ns([process.samples_ns], QUANTILES[metric])
    if metric == "memory":
        return float(process.peak_memory_bytes)
    return process.first_inference_ms if metric == "first" else process.load_ms


def _reason(decision: Verdict | None, tolerance: float, floor: float, *, differs: bool) -> str | None:
    """Return why there is no verdict."""
    if decision != "inconclusive":
        return None
    if tolerance < floor:
        return f"the tolerance of {tolerance:.2%} lies below the noise floor of {floor:.2%} here"
    return "the interval is too wide" if differs else "among so many models it may be chance"


def check_rounds(rounds: Sequence[Round], where: str) -> None:
    """Raise DeviceError unless one device measured all rounds, and each side's outputs agree in all its processes."""
    from stages.devices.rounds import processes_of, results_of

    devices = {
        f"{process.cpu_model} ({process.machine}, {process.runtime} {process.runtime_version})"
        for process in processes_of(rounds)
    }
    if len(devices) > 1:
        what = "the rounds come from different devices: " + " and ".join(sorted(devices))
        raise DeviceError(what, where=where, hint="both sides have to be measured on one device")
    for side, results in results_of(rounds).items():
        if len(results) > 1:
            what = f"the {side} gave {len(results)} different results for one input in {len(rounds)} processes"
            hint = "the runtime is not deterministic, or damaged: its times can't be trusted either"
            raise DeviceError(what, where=where, hint=hint)
