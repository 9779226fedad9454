"""Latency on the target: fresh processes in turns, raw samples kept, a ratio with its interval.

Names load when they are first used: plans and cached runs ask this package for settings and a fingerprint only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.benchmark.config import BenchmarkConfig
    from stages.benchmark.counts import Counts
    from stages.benchmark.measurement import Measurement
    from stages.benchmark.rounds import Round, Subject, measure_rounds
    from stages.benchmark.stage import BenchmarkStage
    from stages.benchmark.statistics import (
        Ratio,
        Verdict,
        latency_quantile_ns,
        latency_ratio,
        round_medians_ns,
        verdict,
    )
    from stages.benchmark.target import Sampling, Target, count, device_fingerprint, find_target, measure, target_names

MODULE_OF = {
    "BenchmarkConfig": "config",
    "BenchmarkStage": "stage",
    "Counts": "counts",
    "Measurement": "measurement",
    "Ratio": "statistics",
    "Round": "rounds",
    "Sampling": "target",
    "Subject": "rounds",
    "Target": "target",
    "Verdict": "statistics",
    "count": "target",
    "device_fingerprint": "target",
    "find_target": "target",
    "latency_quantile_ns": "statistics",
    "latency_ratio": "statistics",
    "measure": "target",
    "measure_rounds": "rounds",
    "round_medians_ns": "statistics",
    "target_names": "target",
    "verdict": "statistics",
}

__all__ = [
    "BenchmarkConfig",
    "BenchmarkStage",
    "Counts",
    "Measurement",
    "Ratio",
    "Round",
    "Sampling",
    "Subject",
    "Target",
    "Verdict",
    "count",
    "device_fingerprint",
    "find_target",
    "latency_quantile_ns",
    "latency_ratio",
    "measure",
    "measure_rounds",
    "round_medians_ns",
    "target_names",
    "verdict",
]


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
