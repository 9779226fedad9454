"""Name and format the metrics of a history, and choose the main one of a target."""

from __future__ import annotations

from pipeline.reports.table import count, size

MAIN = ("latency_p50_ms", "instructions", "arena_bytes", "estimated_cycles", "size_bytes")
INTERVAL = {"latency_p50_ms": ("latency_p50_low_ms", "latency_p50_high_ms")}
ENDS = {end for ends in INTERVAL.values() for end in ends}


def main_metric(metrics: dict[str, float]) -> str:
    """Return the metric that an entry is about."""
    return next((name for name in MAIN if name in metrics), next(iter(metrics), ""))


def said(metric: str, value: float) -> str:
    """Format a number with its unit."""
    if metric.endswith("_ms"):
        return f"{value:.4g} ms"
    if metric.endswith("_bytes"):
        return size(value)
    return f"{value:.3f}" if metric.endswith(("_share", "_ratio")) else count(value)


def unit(metric: str) -> str:
    """Return only the unit."""
    return "ms" if metric.endswith("_ms") else "bytes" if metric.endswith("_bytes") else metric
