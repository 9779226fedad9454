"""Identify the device on which pruning measures, for keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import DependsOnDevice, MeasuresOnTarget
from pipeline.errors import DeviceError
from stages.prune.config import RATIO_OF, PruneConfig


def fingerprint_of(config: PruneConfig, folder: Path) -> Mapping[str, str] | None:
    """Return the fingerprint of `measure_on`'s device, None without one; DeviceError if it is not suitable."""
    if config.measure_on is None:
        return None
    benchmark, on = stages()["benchmark"], config.measure_on
    assert isinstance(benchmark, MeasuresOnTarget)
    assert isinstance(benchmark, DependsOnDevice)
    settings = benchmark.config.model_validate({"targets": (on.target,)})
    metrics = benchmark.metrics_on(settings, folder)
    gives = [measure for measure, ratio in RATIO_OF.items() if ratio in {metric.name for metric in metrics}]
    measure = config.target[0] if config.target and config.measured_target else None
    if not gives or (measure and measure not in gives):
        what = f"{on.target} gives no {measure or 'latency and no instructions'}"
        raise DeviceError(what, hint=f"prune to {gives[0]} on it" if gives else "name a cpu, ssh or qemu target")
    return benchmark.device(settings, folder, None)
