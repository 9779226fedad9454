"""Measure in rounds: a fresh process of the baseline and one of the candidate, taking turns at who goes first.

The order over two rounds is A B B A, so that a drift of the machine (heat, other load) affects both sides alike.
Finished rounds are kept in the scratch folder: a killed measurement resumes after its last round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pipeline.contracts.events import ActionEvents
from pipeline.records.values import Value
from pipeline.store.seals import sealed, unsealed
from stages.devices.measurement import Measurement
from stages.devices.statistics import round_medians_ns
from stages.devices.target import Sampling, Target, measure

Side = Literal["baseline", "candidate"]


class Round(Value):
    """Hold one process of each side; `first` ran before the other."""

    index: int
    first: Side
    baseline: Measurement
    candidate: Measurement

    def side(self, side: Side) -> Measurement:
        """Return the measurement of one side."""
        return self.baseline if side == "baseline" else self.candidate


@dataclass(frozen=True, slots=True)
class Subject:
    """Name a model file to measure, and what errors call it."""

    path: Path
    name: str


def order(index: int) -> tuple[Side, Side]:
    """Return who runs first and second in round `index` (from 0)."""
    return ("baseline", "candidate") if index % 2 == 0 else ("candidate", "baseline")


def measure_rounds(
    subjects: Mapping[Side, Subject],
    target: str | Target,
    count: int,
    sampling: Sampling,
    work_dir: Path,
    events: ActionEvents,
) -> tuple[Round, ...]:
    """Measure `count` rounds, reusing those in `work_dir`. Raises DeviceError."""
    rounds = []
    for index in range(count):
        done = load_round(work_dir, index)
        if done is None:
            done = _run_round(subjects, target, index, sampling)
            _save_round(work_dir, done)
        events.advanced(index + 1, count, f"round {index + 1}/{count}", f"ratio {_ratio(done):.3f}")
        rounds.append(done)
    return tuple(rounds)


def load_round(work_dir: Path, index: int) -> Round | None:
    """Return the finished round `index` in `work_dir`, or None if it is not there as it was measured."""
    try:
        document = unsealed(_round_file(work_dir, index).read_bytes())
        done = Round.model_validate_json(document) if document is not None else None
    except (OSError, ValidationError):
        return None
    return done if done is not None and done.index == index else None


def processes_of(rounds: Sequence[Round]) -> list[Measurement]:
    """Return all processes of both sides."""
    return [process for done in rounds for process in (done.baseline, done.candidate)]


def results_of(rounds: Sequence[Round]) -> dict[Side, set[tuple[str, ...]]]:
    """Return the distinct results of each side for its one input, by output digests: one, if its runtime is sound."""
    return {
        "baseline": {done.baseline.output_digests() for done in rounds},
        "candidate": {done.candidate.output_digests() for done in rounds},
    }


def forget_rounds(work_dir: Path) -> None:
    """Delete all finished rounds, so that the next run measures again."""
    for path in work_dir.glob("round-*.json"):
        path.unlink(missing_ok=True)


def _run_round(subjects: Mapping[Side, Subject], target: str | Target, index: int, sampling: Sampling) -> Round:
    sides = order(index)
    taken = {side: measure(target, subjects[side].path, sampling, subjects[side].name) for side in sides}
    return Round(index=index, first=sides[0], baseline=taken["baseline"], candidate=taken["candidate"])


def _save_round(work_dir: Path, finished: Round) -> None:
    # Both sides or nothing: a ratio counts only if its sides were measured together, and a killed run resumes from
    # these.
    partial = work_dir / "round.partial"
    partial.write_bytes(sealed(finished.model_dump_json(indent=1).encode()))
    partial.replace(_round_file(work_dir, finished.index))


def _round_file(work_dir: Path, index: int) -> Path:
    return work_dir / f"round-{index:04d}.json"


def _ratio(finished: Round) -> float:
    candidate, baseline = round_medians_ns((finished.candidate.samples_ns, finished.baseline.samples_ns))
    return candidate / baseline if baseline else math.inf
