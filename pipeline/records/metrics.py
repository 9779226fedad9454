"""Name metrics, `NAME.METRIC` or, with several outputs, `NAME.METRIC[OUTPUT]`, and declare what each of them is.

NAME is `source`, `control`, `narrow`, a stage's id, `format/scheme` or `format/scheme@target`, and may itself contain
brackets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.records.facts import KerasFacts, QuantizedFacts

# Names of targets (`tflite/int8@my.board.latency_ratio`) and of outputs (`source.mse[head.age/2]`) can have dots. What
# METRIC has before its brackets has none, which leaves one way to read a name.
FULL = re.compile(r"(?P<name>.+?)\.(?P<metric>[^.\[\]]+(\[.*\])?)")
FAMILY, NUMBER = "_K", "[1-9][0-9]{0,3}"
MATRIX = "matrix"  # the unit of what is written to a file, and is not a number


@dataclass(frozen=True, slots=True)
class Metric:
    """Declare a metric where it is measured; everything that reads its numbers asks for this by the metric's name.

    A name that ends in `_K` declares one metric for each number: `top_K` declares `top_1`, `top_5` and so on.

    Attributes:
        unit: `ms`, `bytes`, `share` (of 1), `ratio`, `count`, `dB`, or another unit; "" for plain numbers.
        lower_is_better: None where more of it is neither better nor worse.
        against_source: how it is compared with the source's: divided by it, or subtracted from it.
        needs_labels: whether it is computed from labels.
        requested: whether it is computed where `data.metrics` names it.
        proportion: whether it is the share of samples that are right, which has a binomial interval.
        judged_as: what `compare` calls it; None if `compare` leaves it out.
        noisy: whether it differs between processes by more than any tolerance: `compare` judges it only if it is named.
        tolerance: how much worse `compare` lets it become if nothing else is said; None for the general tolerance.
        of: the metric that this one tells in another way: the ratio of its costs, or a count behind its share.
        speed: whether it tells how fast a file is: a ladder goes by ratios of such metrics.
        told: how a line of progress says it: `p50 {:.3f} ms`; counts and sizes are formatted already.
    """

    name: str
    unit: str
    lower_is_better: bool | None
    against_source: Literal["ratio", "drop"] | None = None
    needs_labels: bool = False
    requested: bool = False
    proportion: bool = False
    judged_as: str | None = None
    noisy: bool = False
    tolerance: float | None = None
    of: str | None = None
    speed: bool = False
    told: str | None = None

    def __post_init__(self) -> None:
        if self.lower_is_better is None and (self.judged_as or self.against_source):
            raise ValueError(f"{self.name} is compared, so it needs a direction: lower_is_better")

    @property
    def is_family(self) -> bool:
        """Return whether this declares a metric for each number, such as `top_K`."""
        return self.name.endswith(FAMILY)

    def named(self, name: str) -> Metric | None:
        """Return the declaration of `name`, without output: this one, or one of its family; None of other metrics."""
        if self.name == name:
            return self
        stem = re.escape(self.name.removesuffix("K"))
        return replace(self, name=name) if self.is_family and re.fullmatch(stem + NUMBER, name) else None

    @property
    def compared(self) -> Metric | None:
        """Declare the metric that compares this one with the source's: `accuracy_drop`, `mse_ratio`; or None."""
        if self.against_source is None:
            return None
        drop = self.against_source == "drop"
        return Metric(
            name=f"{self.name}_{self.against_source}",
            unit=self.unit if drop else "ratio",
            lower_is_better=drop or self.lower_is_better,
            needs_labels=self.needs_labels,
            of=self.name,
        )

    def worsening(self, before: float, after: float) -> float:
        """Return what was lost from `before` to `after`, in the metric's unit: above 0 is worse.

        To nine digits: what a subtraction rounds must not make 67 % less 65 % more than two points.
        """
        lost = after - before if self.lower_is_better else before - after
        return float(f"{lost:.9g}")


# Of every model, whatever makes or measures it.
PARAMS = Metric("params", "count", lower_is_better=True, against_source="ratio", told="{} params")
MACS = Metric("macs", "count", lower_is_better=True, against_source="ratio", told="{} MACs")
MACS_UNKNOWN = Metric("macs_unknown", "count", lower_is_better=None)
COUNTED = (PARAMS, MACS, MACS_UNKNOWN)
SPARSITY = Metric("sparsity", "share", lower_is_better=None, told="{:.1%} zeros")
SIZE = Metric("size_bytes", "bytes", lower_is_better=True, judged_as="size")


def name_and_metric(full: str) -> tuple[str, str]:
    """Return the NAME and the METRIC of a flat name; both empty if it is not one."""
    match = FULL.fullmatch(full)
    return (match["name"], match["metric"]) if match else ("", "")


def of_output(metric: str, output: str | None) -> str:
    """Return `accuracy[age]`; the metric alone if there is one output."""
    return metric if output is None else f"{metric}[{output}]"


def metric_and_output(metric: str) -> tuple[str, str | None]:
    """Return the metric without its output, and the output, if any: the inverse of `of_output`."""
    bare, bracket, rest = metric.partition("[")
    return bare, rest.removesuffix("]") if bracket else None


def counted(facts: KerasFacts | QuantizedFacts) -> dict[str, float]:
    """Return a model's `params` and `macs` as metrics; if `macs` is a lower bound, also the number `macs_unknown`."""
    metrics = {PARAMS.name: float(facts.params), MACS.name: float(facts.macs)}
    return metrics | ({MACS_UNKNOWN.name: float(len(facts.macs_unknown))} if facts.macs_unknown else {})
