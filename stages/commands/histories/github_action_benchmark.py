"""Export the newest entry of each series for github-action-benchmark: the tool `customSmallerIsBetter`.

Format: github.com/benchmark-action/github-action-benchmark, a list of name, value, unit, and optionally range, extra.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from stages.commands.histories.figures import ENDS, INTERVAL, main_metric, unit, what_is
from stages.commands.histories.picture import series_of
from stages.commands.histories.record import Entry


def exported(entries: Sequence[Entry], metric: str | None = None) -> str:
    """Export all numbers of the newest entries that are declared better if smaller, or one metric of each."""
    items = []
    for row in series_of(entries, metric).values():
        newest = row[-1]
        names = [metric] if metric else [name for name in newest.metrics if _smaller_is_better(name)]
        items += [_item(newest, name) for name in names]
    return json.dumps(items, ensure_ascii=False, indent=1)


def undeclared(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the metrics that nothing installed declares: whether they are better if smaller is not known."""
    names = dict.fromkeys(name for entry in entries for name in entry.metrics)
    return tuple(name for name in names if what_is(name) is None)


def _smaller_is_better(name: str) -> bool:
    known = None if name in ENDS else what_is(name)
    return known is not None and known.lower_is_better is True


def _item(entry: Entry, metric: str) -> dict[str, str | float]:
    item: dict[str, str | float] = {
        "name": f"{entry.name}@{entry.target} {metric}",
        "unit": unit(metric),
        "value": entry.metrics[metric],
        "extra": f"{entry.runtime}, {entry.rounds} rounds, {entry.digest[:19]}",
    }
    ends = [entry.metrics[end] for end in INTERVAL.get(metric, ()) if end in entry.metrics]
    if metric == main_metric(entry.metrics) and ends:
        item["range"] = f"± {(ends[1] - ends[0]) / 2:.4g}"
    return item
