"""Name metrics, `NAME.METRIC` or, with several outputs, `NAME.METRIC[OUTPUT]`, and what is compared with what.

NAME is `source`, `control`, a stage's id, `format/scheme` or `format/scheme@target`, and may itself contain brackets.
"""

from __future__ import annotations

import re

from pipeline.data.spec import TOP_K
from pipeline.records.facts import KerasFacts, QuantizedFacts

FULL = re.compile(r"(?P<name>.+?)\.(?P<metric>[^.\[\]]+(\[.*\])?)")
RATIOS = ("params", "macs", "mse", "mae")  # metrics that are divided by the source's
DROPS = ("accuracy", "macro_f1", "auc")  # and those that are subtracted from the source's, like top_K


def name_and_metric(full: str) -> tuple[str, str]:
    """Return the NAME and the METRIC of a flat name; both empty if it is not one."""
    found = FULL.fullmatch(full)
    return (found["name"], found["metric"]) if found else ("", "")


def of_output(metric: str, output: str | None) -> str:
    """Return `accuracy[age]`; the metric alone if there is one output."""
    return metric if output is None else f"{metric}[{output}]"


def metric_and_output(metric: str) -> tuple[str, str | None]:
    """Return the metric without its output, and the output, if any: the inverse of `of_output`."""
    bare, bracket, rest = metric.partition("[")
    return bare, rest.removesuffix("]") if bracket else None


def comparison(metric: str) -> str | None:
    """Name the metric that compares this one with the source's: `accuracy_drop`, `mse_ratio[age]`; or None."""
    bare, output = metric_and_output(metric)
    if bare in RATIOS:
        return of_output(f"{bare}_ratio", output)
    return of_output(f"{bare}_drop", output) if bare in DROPS or TOP_K.fullmatch(bare) else None


def counted(facts: KerasFacts | QuantizedFacts) -> dict[str, float]:
    """Return a model's `params` and `macs` as metrics; if `macs` is a lower bound, also the number `macs_unknown`."""
    found = {"params": float(facts.params), "macs": float(facts.macs)}
    return found | ({"macs_unknown": float(len(facts.macs_unknown))} if facts.macs_unknown else {})
