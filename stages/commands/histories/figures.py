"""Name and format the metrics of a history, and choose the main one of a target."""

from __future__ import annotations

from pipeline.records.declared import declared, every_metric
from pipeline.records.metrics import SIZE, Metric
from pipeline.reports.table import count, size

# The ends of an interval that `bench` writes next to its metric: they have the metric's unit.
INTERVAL = {"latency_p50_ms": ("latency_p50_low_ms", "latency_p50_high_ms")}
ENDS = {end: metric for metric, ends in INTERVAL.items() for end in ends}


def main_metric(metrics: dict[str, float]) -> str:
    """Return the metric that an entry is about: the one that its target is compared by, else the file's size."""
    steady = [
        metric for metric in every_metric().values() if metric.judged_as and metric.lower_is_better and not metric.noisy
    ]
    names = [metric.name for metric in steady if metric.name in metrics and not metric.needs_labels]
    return min(names, key=lambda name: name == SIZE.name, default=next(iter(metrics), ""))


def said(metric: str, value: float) -> str:
    """Format a number with its unit."""
    known = what_is(metric)
    match known.unit if known else None:
        case "bytes":
            return size(value)
        case "count":
            return count(value)
        case "share" | "ratio":
            return f"{value:.3f}"
        case unit:
            return f"{value:.4g} {unit or ''}".rstrip()


def unit(metric: str) -> str:
    """Return only the unit; the metric's name for what has none."""
    known = what_is(metric)
    return known.unit if known and known.unit not in ("", "count", "share", "ratio") else metric


def what_is(metric: str) -> Metric | None:
    """Return the declaration of a metric, or of the one whose interval ends there; None if nothing declares it."""
    return declared(ENDS.get(metric, metric))
