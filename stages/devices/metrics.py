"""Declare what one inference costs on a target: times of drivers with a clock, instructions of those that count."""

from __future__ import annotations

from pipeline.records.metrics import SIZE, Metric

LATENCY = Metric("latency_p50_ms", "ms", lower_is_better=True, judged_as="latency", speed=True, told="p50 {:.3f} ms")
LATENCY_RATIO = Metric("latency_ratio", "ratio", lower_is_better=True, of=LATENCY.name, told="ratio {:.3f}")
BASELINE_LATENCY = Metric("baseline_p50_ms", "ms", lower_is_better=None)
TIMED = (
    LATENCY,
    Metric("latency_p90_ms", "ms", lower_is_better=True, judged_as="p90", noisy=True),
    Metric("latency_p99_ms", "ms", lower_is_better=True, judged_as="p99", noisy=True),
    Metric("first_inference_ms", "ms", lower_is_better=True, judged_as="first", noisy=True),
    Metric("load_ms", "ms", lower_is_better=True, judged_as="load", noisy=True),
    Metric("peak_memory_bytes", "bytes", lower_is_better=True, judged_as="memory", noisy=True),
    BASELINE_LATENCY,
    LATENCY_RATIO,
    Metric("noise_floor", "share", lower_is_better=True),
    SIZE,
)
"""What a benchmark gives on every target with a clock."""

INSTRUCTIONS = Metric(
    "instructions", "count", lower_is_better=True, judged_as="instructions", speed=True, told="{} instructions"
)
INSTRUCTION_RATIO = Metric(
    "instruction_ratio", "ratio", lower_is_better=True, of=INSTRUCTIONS.name, told="ratio {:.3f}"
)
BASELINE_INSTRUCTIONS = Metric("baseline_instructions", "count", lower_is_better=None)


def ratio_of(main: str | None, declared: tuple[Metric, ...]) -> Metric | None:
    """Return the metric that is declared as the ratio of a target's main number; None if there is none."""
    return next((metric for metric in declared if metric.of == main and metric.unit == "ratio"), None)
