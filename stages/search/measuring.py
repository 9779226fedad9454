"""Compare a candidate's files with the source's in the same format and scheme: what pruning gave, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.contracts.events import ActionEvents, Listener
from pipeline.errors import StoreError
from pipeline.records.manifest import Output, RunManifest
from pipeline.records.roles import files_of, is_baseline
from pipeline.records.values import Value
from pipeline.store import Store
from stages.benchmark.summary import ratio_of
from stages.devices.rounds import Side, Subject, measure_rounds
from stages.devices.target import Sampling, find_target
from stages.formats.registry import whole_model
from stages.search.goal import Goal

ROUNDS, SECONDS = 10, 0.1


class Against(Value):
    """Hold a candidate's cost relative to the source's: below 1 it is better. The interval is None of exact numbers."""

    ratio: float
    low: float | None = None
    high: float | None = None


def against_source(
    goal: Goal, axis: str, runs: Mapping[Side, RunManifest], store: Store, folder: Path, listener: Listener
) -> Against | None:
    """Return the cost of a file relative to the source's, both measured here and now, in turns; counts are exact.

    None if the source has no such file, or its cost was not measured. DeviceError if measuring fails.
    """
    target = find_target(goal.target, folder) if goal.target is not None else None
    made = {side: _file(run, axis) for side, run in runs.items()}
    if any(output is None for output in made.values()):
        return None
    if target is None or target.counts:
        name = f"{axis}@{goal.target}.{goal.cost.name}" if goal.target else f"{axis}.{goal.cost.name}"
        costs = {side: run.metrics.get(name) for side, run in runs.items()}
        candidate, baseline = costs["candidate"], costs["baseline"]
        return Against(ratio=candidate / baseline) if candidate is not None and baseline else None
    with TemporaryDirectory(prefix="secateur-") as scratch:
        subjects = {
            side: Subject(_path(output, store, Path(scratch) / side), f"{side} {axis}")
            for side, output in made.items()
            if output is not None
        }
        sampling = Sampling(seconds=SECONDS, threads=1)
        events = ActionEvents(f"measure {axis}", listener)
        ratio = ratio_of(measure_rounds(subjects, target, ROUNDS, sampling, Path(scratch), events))
    return Against(ratio=ratio.point, low=ratio.low, high=ratio.high)


def _file(run: RunManifest, axis: str) -> Output | None:
    made = (files_of(entry) for entry in run.stages if entry.axis == axis and not is_baseline(entry))
    return next((outputs[0] for outputs in made if outputs), None)


def _path(output: Output, store: Store, folder: Path) -> Path:
    """Return a model's path, its files beside each other; StoreError if one is missing or damaged."""
    digests = {file.name: file.digest for file in output.files}

    def read(name: str) -> Path:
        problem = store.blobs.problem(digests[name])
        if problem is not None:
            raise StoreError(f"{name}: {problem}", where=digests[name], hint="search again: it is made again")
        return store.blobs.path(digests[name])

    return whole_model(output.kind, list(digests), read, folder)
