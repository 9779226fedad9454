"""Scan accuracy over the ratio: each group alone loses its least important channels, by masking, not surgery.

Each point is written to the work directory when it is measured, so that a killed scan resumes (as in Li et al.,
"Pruning Filters for Efficient ConvNets", 2017, section 3.2).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rfc8785

from pipeline.data import Split
from pipeline.errors import PostconditionError
from pipeline.records.values import Value
from pipeline.store.seals import sealed, unsealed
from stages.keras.accuracy import correct_counter
from stages.keras.channels.groups import ChannelGraph, ChannelGroup
from stages.keras.flatten import flattened
from stages.keras.types import KerasModel
from stages.prune.choosing.choice import prunable_graph
from stages.prune.config import ScanConfig
from stages.prune.ranking.scoring import group_scores
from stages.prune.surgery.equivalence import masked
from stages.samples.model_samples import samples_of

Progress = Callable[[float, float, str, str], None]  # done, total, what, detail
BATCH = 64


class Point(Value):
    """Hold the accuracy with this share of the group's channels masked."""

    ratio: float
    channels: int
    accuracy: float


class GroupScan(Value):
    """Hold the points of one group, by ascending ratio."""

    name: str
    producers: tuple[str, ...]
    channels: int
    points: tuple[Point, ...]


class SensitivityReport(Value):
    """Hold the accuracy of the unchanged model, and with each group alone masked step by step, on the same samples."""

    schema_version: Literal[1] = 1
    criterion: str
    split: str
    samples: int
    baseline_accuracy: float
    groups: tuple[GroupScan, ...]

    def to_json(self) -> bytes:
        """Return canonical JSON: equal reports are equal bytes."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    def drops(self) -> dict[str, tuple[tuple[float, float], ...]]:
        """Return for each group its points as (ratio, accuracy lost)."""
        base = self.baseline_accuracy
        return {g.name: tuple((point.ratio, base - point.accuracy) for point in g.points) for g in self.groups}


@dataclass(frozen=True, slots=True)
class Scan:
    """Hold the report, and whether points that a killed scan had measured were used."""

    report: SensitivityReport
    resumed: bool


def scan(
    model: KerasModel,
    config: ScanConfig,
    measured_on: Split,
    ranked_by: Split | None,
    seed: int,
    work_dir: Path,
    heard: Progress = lambda *_: None,
) -> Scan:
    """Measure every group at every ratio. `model` is unchanged when this returns; its weights change meanwhile."""
    model = flattened(model)
    graph = prunable_graph(model, config.exclude)
    samples = None if ranked_by is None else samples_of(model, ranked_by)
    scores = group_scores(model, graph.prunable, config, seed, samples)
    ranked = [(group, s) for group, s in zip(graph.prunable, scores, strict=True) if s is not None]
    meter = _Meter(model, graph, measured_on, config.scan_samples)
    points = Points(work_dir / "points.jsonl")
    resumed = bool(points.known)
    total = len(ranked) * len(config.ratios)
    base = points.measured("", 0, partial(meter.accuracy, (), None))
    scans = []
    for index, (group, ranking) in enumerate(ranked):
        group_points = []
        for step, ratio in enumerate(sorted(config.ratios)):
            # One stays: without any channel the network gives one answer for all.
            gone = min(round(ratio * ranking.size), ranking.size - 1)
            least = np.argsort(ranking, kind="stable")[:gone]
            accuracy = points.measured(group.name, gone, partial(meter.accuracy, (group,), least))
            group_points.append(Point(ratio=ratio, channels=gone, accuracy=accuracy))
            done = index * len(config.ratios) + step + 1
            heard(done, total, "points", f"{group.name} -{ratio:.0%}: {accuracy:.4f}")
        scans.append(
            GroupScan(name=group.name, producers=group.makers, channels=ranking.size, points=tuple(group_points))
        )
    if meter.accuracy((), None) != base:
        raise PostconditionError(
            "the scan left the model's weights changed", where="sensitivity", hint="please report it"
        )
    report = SensitivityReport(
        criterion=config.criterion,
        split=measured_on.name,
        samples=meter.samples,
        baseline_accuracy=base,
        groups=tuple(scans),
    )
    return Scan(report, resumed)


class _Meter:
    """Measure the accuracy of one model, compiled once, with channels masked."""

    def __init__(self, model: KerasModel, graph: ChannelGraph, split: Split, samples: int) -> None:
        self._model, self._graph, self._split = model, graph, split
        self.samples = min(samples, len(split))
        self._picked = np.sort(np.random.default_rng(0).choice(len(split), self.samples, replace=False))
        self._count = correct_counter(model)

    def accuracy(self, groups: tuple[ChannelGroup, ...], positions: Any) -> float:
        """Return the accuracy with the channels at `positions` of the one group masked, or nothing without a group."""
        keep = np.ones(self._graph.count, dtype=bool)
        for group in groups:
            keep[group.channels[positions]] = False
        with masked(self._model, self._graph, keep):
            return self._count(self._batches()) / self.samples

    def _batches(self) -> Any:
        for start in range(0, self.samples, BATCH):
            picked = self._picked[start : start + BATCH]
            yield self._split.take(picked)


class Points:
    """Store measured points in a file, each a sealed line of JSON; what is cut short or damaged is measured again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known: dict[tuple[str, int], float] = {}
        written = path.read_bytes() if path.exists() else b""
        if written and not written.endswith(b"\n"):  # a kill truncated the last line
            path.write_bytes(written + b"\n")
        for line in written.split(b"\n"):
            document = unsealed(line)
            if document is not None:
                entry = json.loads(document)
                self.known[entry["group"], entry["channels"]] = float(entry["accuracy"])

    def measured(self, group: str, channels: int, measure: Callable[[], float]) -> float:
        """Return the accuracy of a point: known, or measured now and recorded."""
        if (group, channels) not in self.known:
            self.known[group, channels] = measure()
            entry = {"group": group, "channels": channels, "accuracy": self.known[group, channels]}
            with self._path.open("ab") as file:
                file.write(sealed(json.dumps(entry).encode()) + b"\n")
        return self.known[group, channels]
