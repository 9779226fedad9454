"""Know what can be compared: the metrics that installed stages and targets declare with a name for it.

How much worse one side is, in which unit, and how much is tolerated follow from the declaration alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from pipeline.records.declared import comparison, every_metric
from pipeline.records.metrics import Metric

SHARE, COUNT = "share", "count"


@cache
def compared() -> Mapping[str, Metric]:
    """Return the metrics that are compared, by the names that they have on the command line and in reports."""
    return MappingProxyType({metric.judged_as: metric for metric in every_metric().values() if metric.judged_as})


def qualities() -> tuple[str, ...]:
    """Return the names of those that are measured with labels, whatever the target."""
    return tuple(name for name, metric in compared().items() if metric.needs_labels)


def unit_of(metric: Metric) -> str:
    """Return the unit as reports have it: none for counts."""
    return "" if metric.unit == COUNT else metric.unit


def change_of(metric: Metric, baseline: float, candidate: float) -> float:
    """Return how much worse the candidate is, above 0, or better: what a share lost, the relative change of others."""
    if metric.unit == SHARE:
        return metric.worsening(baseline, candidate)
    before, after = (baseline, candidate) if metric.lower_is_better else (candidate, baseline)
    return after / before - 1 if before else 0.0


def gated_as(name: str) -> tuple[str, ...]:
    """Return what gates call the numbers of a compared metric: first those that compare it with another model's."""
    own = compared()[name].name
    against = comparison(own)
    others = [metric.name for metric in every_metric().values() if metric.of == own]
    return (*others, *((against,) if against else ()), own)
