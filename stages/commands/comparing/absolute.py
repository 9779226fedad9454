"""Measure files individually for `bench`: rounds of fresh processes in which all files take turns, or counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.contracts.events import ActionEvents
from pipeline.errors import DeviceError
from stages.commands.comparing.fitness import require_fit
from stages.commands.comparing.operands import Model

if TYPE_CHECKING:
    from stages.devices.measurement import Measurement
    from stages.devices.target import Sampling, Target

Figures = dict[str, float]


def bench(
    models: Sequence[Model], target: Target, sampling: Sampling, rounds: int, events: ActionEvents
) -> list[tuple[str, Figures]]:
    """Return the runtime and the figures of each model on one target, by metric name. Raises DeviceError."""
    from stages.devices.measurement import doubts

    require_fit(target, models, sampling)
    if target.counts:
        return [_counted(model, target, sampling, events) for model in models]
    processes: list[list[Measurement]] = [[] for _ in models]
    for index in range(rounds):
        for position in _turns(len(models), index):
            processes[position].append(_measured(models[position], target, sampling))
        events.advanced(index + 1, rounds, f"round {index + 1}/{rounds}")
    for doubt in doubts([process for own in processes for process in own]):
        events.warned(doubt)
    return [_figures(model, own) for model, own in zip(models, processes, strict=True)]


def _turns(count: int, index: int) -> list[int]:
    """Alternate forward and backward order, so that drift of the machine affects all files alike."""
    return list(range(count))[:: 1 if index % 2 == 0 else -1]


def _measured(model: Model, target: Target, sampling: Sampling) -> Measurement:
    from stages.devices.target import measure

    return measure(target, model.path, sampling, model.title)


def _counted(model: Model, target: Target, sampling: Sampling, events: ActionEvents) -> tuple[str, Figures]:
    from stages.devices.target import count

    counts = count(target, model.path, model.title, sampling.shapes)
    for note in counts.notes:
        events.warned(f"{model.label}: {note}")
    return counts.runtime, {**counts.metrics, "size_bytes": float(model.size_bytes)}


def _figures(model: Model, measurements: Sequence[Measurement]) -> tuple[str, Figures]:
    """Weight rounds equally in percentiles; `latency_p50_low_ms` to `_high_ms` is the median's 95 % interval.

    A single round has no interval: what a second one would give is unknown.
    """
    import numpy as np

    from stages.benchmark.summary import NS_PER_MS
    from stages.devices.statistics import (
        SAMPLES_FOR_P99,
        latency_quantile_ns,
        latency_ratio,
        round_medians_ns,
    )

    devices = {
        (measurement.cpu_model, measurement.machine, measurement.runtime, measurement.runtime_version)
        for measurement in measurements
    }
    if len(devices) > 1:
        raise DeviceError("the rounds come from different devices", where=model.title, hint="measure again")
    samples = [measurement.samples_ns for measurement in measurements]
    figures = {"latency_p50_ms": latency_quantile_ns(samples, 0.5) / NS_PER_MS}
    if len(measurements) > 1:
        medians = round_medians_ns(samples)
        interval = latency_ratio(medians, [NS_PER_MS] * len(medians))  # over 1 ms: the medians themselves
        figures |= {"latency_p50_low_ms": interval.low, "latency_p50_high_ms": interval.high}
    figures |= {
        "latency_p90_ms": latency_quantile_ns(samples, 0.9) / NS_PER_MS,
        "first_inference_ms": float(np.median([measurement.first_inference_ms for measurement in measurements])),
        "load_ms": float(np.median([measurement.load_ms for measurement in measurements])),
        "peak_memory_bytes": float(max(measurement.peak_memory_bytes for measurement in measurements)),
        "size_bytes": float(model.size_bytes),
    }
    if sum(map(len, samples)) >= SAMPLES_FOR_P99:
        figures["latency_p99_ms"] = latency_quantile_ns(samples, 0.99) / NS_PER_MS
    return f"{measurements[0].runtime} {measurements[0].runtime_version}", figures
