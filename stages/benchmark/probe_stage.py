"""Measure what single layers cost on a target. `prune` uses this to find efficient channel counts.

The stage takes no artifacts: a layer costs the same whatever network it comes from, so that one cost table serves every
network that has such layers, on one device, in one runtime and scheme.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import PostconditionError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.metrics import Metric
from pipeline.store.seals import sealed, unsealed
from stages.benchmark.config import TargetName
from stages.formats.cost_facts import CostFacts
from stages.formats.probe import COST_FILE, Cost, CostTable, Probe, ProbeScheme
from stages.formats.probe_models import ProbeFormat

if TYPE_CHECKING:
    from stages.devices.target import CostUnit, Probed, Target

PROCESSES = {"instructions": 1, "nanoseconds": 5}  # the spread of counts is known from set-up
PART = 256  # probes per process: the most that a killed run loses


class ProbeConfig(StageConfig):
    """List the layers to measure, each alone."""

    target: TargetName
    format: ProbeFormat
    scheme: ProbeScheme
    probes: tuple[Probe, ...] = Field(min_length=1)


class ProbeStage:
    """Measure probes; takes no artifacts."""

    name: ClassVar[str] = "probe"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = ProbeConfig
    inputs: ClassVar[Mapping[str, Input]] = {}
    outputs: ClassVar[tuple[Kind, ...]] = ("cost-table",)
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("probes", "count", lower_is_better=None),
        Metric("spread", "share", lower_is_better=True),
    )
    packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "onnxruntime", "onnx", "flatbuffers", "numpy")

    def splits(self, config: ProbeConfig) -> tuple[str, ...]:
        return ()

    def device(self, config: ProbeConfig, folder: Path, axis: str | None) -> Mapping[str, str]:
        """Return the fingerprint of the target, which enters the action's key. DeviceError if it is not set up."""
        from stages.devices.target import device_fingerprint, find_target

        return device_fingerprint(find_target(config.target, folder))

    def requires(self, config: ProbeConfig, inputs: Mapping[str, Artifact]) -> None:
        """Check nothing: the target is checked when it is used."""

    def run(self, context: StageContext[ProbeConfig]) -> StageResult:
        from stages.devices.target import find_target

        config, target = context.config, find_target(context.config.target, context.folder)
        probed, resumed = _rounds(context, target)
        unit = _unit(target)
        take = min if unit == "instructions" else statistics.median
        table = CostTable(
            target=target.name,
            runtime=probed[0].runtime,
            scheme=config.scheme,
            unit=unit,
            spread=spread_of([process.costs for process in probed]),
            costs=tuple(
                Cost(probe=probe, cost=take(costs))
                for probe, *costs in zip(config.probes, *(process.costs for process in probed), strict=True)
            ),
        )
        file = context.write(COST_FILE, table.model_dump_json().encode(), "application/json")
        facts = CostFacts(
            target=table.target,
            runtime=table.runtime,
            scheme=table.scheme,
            unit=unit,
            probes=len(table.costs),
            spread=table.spread,
        )
        metrics = {"probes": float(len(table.costs)), "spread": table.spread}
        return StageResult((Artifact(files=(file,), facts=facts),), metrics, resumed=resumed)

    def ensures(self, context: StageContext[ProbeConfig], result: StageResult) -> None:
        facts = result.outputs[0].facts
        if not isinstance(facts, CostFacts) or facts.probes != len(context.config.probes):
            raise PostconditionError("the cost table is not whole", where="probe")


def _unit(target: Target) -> CostUnit:
    """Return the unit of the target's costs; DeviceError if it can't run probes."""
    from stages.devices.target import probing_driver

    return probing_driver(target).cost_unit


def _rounds(context: StageContext[ProbeConfig], target: Target) -> tuple[list[Probed], bool]:
    """Run all probes in several processes, part by part; parts measured by a killed run are reused."""
    from stages.devices.target import Probed, probe
    from stages.formats.probe_models import probe_archive

    config, parts = context.config, []
    times, resumed, done = PROCESSES[_unit(target)], False, 0
    starts = range(0, len(config.probes), PART)
    archive = context.work_dir / "probes.zip"
    for index in range(times):
        costs: list[float] = []
        runtime = ""
        for start in starts:
            probes = config.probes[start : start + PART]
            kept = context.work_dir / f"part-{index}-{start}.json"
            measured = _kept(kept)
            resumed = resumed or measured is not None
            if measured is None:
                archive.write_bytes(probe_archive(probes, config.format, config.scheme))
                measured = probe(target, archive, f"{len(probes)} probes")
                _check_whole(measured, len(probes), target)
                _keep(kept, measured)
            costs += measured.costs
            runtime = measured.runtime
            done += len(probes)
            context.events.advanced(done, times * len(config.probes), "probes", f"{target.name}")
        parts.append(Probed(runtime, tuple(costs)))
    return parts, resumed


def _kept(path: Path) -> Probed | None:
    from stages.devices.target import Probed

    try:
        document = unsealed(path.read_bytes())
    except OSError:
        return None
    if document is None:
        return None
    measured = json.loads(document)
    return Probed(measured["runtime"], tuple(measured["costs"]))


def _keep(path: Path, probed: Probed) -> None:
    # Renamed when it is whole: the next run takes a part that is there for measured.
    partial = path.with_suffix(".partial")
    partial.write_bytes(sealed(json.dumps({"runtime": probed.runtime, "costs": probed.costs}, indent=1).encode()))
    partial.replace(path)


def _check_whole(probed: Probed, probes: int, target: Target) -> None:
    measured = sum(cost > 0 for cost in probed.costs)
    if len(probed.costs) != probes or measured != probes:
        hint = f"set it up again: {target.set_up_command}"
        raise PostconditionError(
            f"{measured} of {probes} probes were measured on {target.name}", where="probe", hint=hint
        )


def spread_of(rounds: Sequence[Sequence[float]]) -> float:
    """Return the typical relative spread between processes: the median over probes of their middle values' range."""
    spreads = []
    for costs in zip(*rounds, strict=True):
        ordered = sorted(costs)
        inner = ordered[1:-1] if len(ordered) > 3 else ordered  # ignore a process that was disturbed
        spreads.append((inner[-1] - inner[0]) / statistics.median(ordered))
    return float(statistics.median(spreads))
