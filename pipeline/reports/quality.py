"""Choose the metric by which a report compares models, and format it: one column, whatever is measured besides.

It is the first of the recipe's `data.metrics`, of each output; where the recipe chooses none, the one that `compare`
judges, such as `accuracy` or `mse`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import sqrt

from pipeline.records.declared import declared_by_stages, metrics_of_stages
from pipeline.records.metrics import Metric, metric_and_output

Chosen = tuple[str, ...] | Mapping[str, tuple[str, ...]] | None  # the recipe's `data.metrics`


def quality_of(metrics: Iterable[str], chosen: Chosen = None) -> tuple[str, ...]:
    """Return which of these metrics to show: `accuracy`, or `accuracy[age]` of each of several outputs.

    Those that the recipe chose come first, in its order; the others stay in the order given.
    """
    known = tuple(dict.fromkeys(metrics))
    picked: dict[str | None, str] = {}
    for wanted, name in _in_order(chosen):
        for metric in known:
            bare, output = metric_and_output(metric)
            if bare == name and (wanted is None or output in (None, wanted)):
                picked.setdefault(output, metric)
    judged = [metric for metric in known if _is_judged(metric)]
    alone = [metric for metric in metrics_of_stages() if metric in judged][:1]
    rest = [metric for metric in alone or judged if metric_and_output(metric)[1] not in picked]
    return (*picked.values(), *rest)


def _in_order(chosen: Chosen) -> Iterator[tuple[str | None, str]]:
    """Yield the output, None for any, and the flat name of each metric; a user's `module:function` is `function`."""
    by_output = chosen.items() if isinstance(chosen, Mapping) else [(None, chosen or ())]
    for output, names in by_output:
        yield from ((output, name.rpartition(":")[2]) for name in names)


def _is_judged(metric: str) -> bool:
    declared = _declared(metric)
    return declared is not None and declared.needs_labels and declared.judged_as is not None


def quality_text(metric: str, value: float, samples: int | None) -> str:
    """Format a share in percent, that of `samples` with its interval, and another number to four digits."""
    declared = _declared(metric)
    if declared is None or declared.unit != "share":
        return f"{value:.4g}"
    interval = f" ± {100 * wilson_half_width(value, samples):.1f}" if declared.proportion and samples else ""
    return f"{100 * value:.2f}{interval}"


def short_text(metric: str, value: float) -> str:
    """Format as `quality_text` does where there is no room for an interval, and other shares stand beside it."""
    declared = _declared(metric)
    return f"{value:.2%}" if declared is not None and declared.unit == "share" else quality_text(metric, value, None)


def _declared(metric: str) -> Metric | None:
    """Return the declaration of a metric that labels give; None of a user's function."""
    return declared_by_stages(metric_and_output(metric)[0])


def wilson_half_width(share: float, samples: int) -> float:
    """Return half the width of the 95 % interval of a share (E. B. Wilson, 1927), valid near 0 and 1 too."""
    square = 1.96**2
    return sqrt(square) / (1 + square / samples) * sqrt(share * (1 - share) / samples + square / (4 * samples**2))
