"""Measure on the target `cpu`: this machine, with the device runner as a subprocess of the same Python."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.records.artifacts import Kind
from pipeline.records.metrics import Metric
from pipeline.system.processes import TIMEOUT_S, Ended, run_process
from stages.devices.metrics import TIMED
from stages.devices.runner_file import runner_file
from stages.devices.target import (
    PROBING,
    CostUnit,
    Probed,
    Sampling,
    Say,
    Target,
    TargetSettings,
    document_of,
    run_command,
    series_times,
)
from stages.formats.format import OnDevice
from stages.formats.registry import kinds_that

if TYPE_CHECKING:
    from stages.devices.measurement import Measurement


class CpuSettings(TargetSettings):
    """Configure the target: `affinity` lists the processors that the runner is pinned to; none means any."""

    affinity: tuple[int, ...] = Field(default=())


class CpuDriver:
    """Measure times on this machine."""

    settings: ClassVar[type[TargetSettings]] = CpuSettings
    metrics: ClassVar[tuple[Metric, ...]] = TIMED
    formats: ClassVar[tuple[Kind, ...]] = kinds_that(OnDevice)
    cost_unit: ClassVar[CostUnit] = "nanoseconds"

    def fingerprint(self, target: Target) -> dict[str, str]:
        from stages.devices.runner import cpu_model

        # No host name and nothing that a reboot changes: records of two equal machines are equally good.
        identity = {
            "cpu_model": cpu_model(),
            "cores": str(os.cpu_count() or 1),
            "machine": platform.machine(),
            "system": platform.system(),
        }
        return identity | affinity_fingerprint(target)

    def set_up(self, target: Target, say: Say) -> None:
        say("nothing to set up: this machine is ready")

    def measure(self, target: Target, model: Path, sampling: Sampling, name: str, timeout_s: float) -> Measurement:
        options = [*sampling.arguments(), *affinity_options(target)]
        # The packed file that boards get, and not the module: so that both measure with the same code.
        return run_command([sys.executable, str(runner_file()), str(model), *options], name, timeout_s)

    def probe(self, target: Target, archive: Path, name: str, options: Sequence[str] = ()) -> Probed:
        series = ["--series", *PROBING.arguments(), *affinity_options(target), *options]
        return series_times(_run_here(archive, series, name), name)

    def document(self, target: Target, model: Path, options: Sequence[str], name: str) -> dict[str, Any]:
        return document_of(_run_here(model, options, name), name)


def _run_here(model: Path, options: Sequence[str], name: str) -> Ended:
    return run_process([sys.executable, str(runner_file()), str(model), *options], name, TIMEOUT_S)


def affinity_options(target: Target) -> list[str]:
    """Return the runner's options that pin it to processors."""
    affinity = target.settings.affinity
    return ["--affinity", ",".join(map(str, affinity))] if affinity else []


def affinity_fingerprint(target: Target) -> dict[str, str]:
    """Add named processors to the fingerprint, since other processors may be different cores."""
    affinity = target.settings.affinity
    return {"affinity": ",".join(map(str, affinity))} if affinity else {}
