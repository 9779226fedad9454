"""Flat names of metrics, `NAME.METRIC` or, of several outputs, `NAME.METRIC[OUTPUT]`, and what is compared with what.

NAME is `source`, `control`, a stage's id, `format/scheme` or `format/scheme@target`, and may hold brackets of its own.
"""

from __future__ import annotations

import re

from pipeline.data.spec import TOP_K
from pipeline.records.facts import KerasFacts, QuantizedFacts

FULL = re.compile(r"(?P<name>.+?)\.(?P<metric>[^.\[\]]+(\[.*\])?)")
RATIOS = ("params", "macs", "mse", "mae")  # metrics that are compared with the source's by division
DROPS = ("accuracy", "macro_f1", "auc")  # and by subtraction, as top_K: the source's less one's own


def name_and_metric(full: str) -> tuple[str, str]:
    """The NAME and the METRIC of a flat name; both empty where it is none."""
    found = FULL.fullmatch(full)
    return (found["name"], found["metric"]) if found else ("", "")


def of_output(metric: str, output: str | None) -> str:
    """`accuracy[age]`; the metric alone where there is one output."""
    return metric if output is None else f"{metric}[{output}]"


def metric_and_output(metric: str) -> tuple[str, str | None]:
    """The metric without its output, and the output, if any: the inverse of `of_output`."""
    bare, bracket, rest = metric.partition("[")
    return bare, rest.removesuffix("]") if bracket else None


def comparison(metric: str) -> str | None:
    """The metric that compares this one with the source's: `accuracy_drop`, `mse_ratio[age]`; None where none does."""
    bare, output = metric_and_output(metric)
    if bare in RATIOS:
        return of_output(f"{bare}_ratio", output)
    return of_output(f"{bare}_drop", output) if bare in DROPS or TOP_K.fullmatch(bare) else None


def counted(facts: KerasFacts | QuantizedFacts) -> dict[str, float]:
    """A model's `params` and `macs` as metrics; where `macs` is a lower bound, `macs_unknown` layers have more."""
    found = {"params": float(facts.params), "macs": float(facts.macs)}
    return found | ({"macs_unknown": float(len(facts.macs_unknown))} if facts.macs_unknown else {})
