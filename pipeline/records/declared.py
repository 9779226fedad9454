"""Look up what installed stages, formats and targets declare of their metrics, by the metrics' names.

Formats declare through the stage that exports them. Targets are imported only where no stage declares a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from pipeline.errors import SecateurError
from pipeline.records.metrics import Metric, metric_and_output, of_output
from pipeline.system.plugins import instances_of, named_in

STAGES_GROUP, TARGETS_GROUP = "secateur.stages", "secateur.targets"


def require_declared(whose: str, metrics: Iterable[object]) -> None:
    """Raise SecateurError if one of the metrics that `whose` code declares is not a Metric."""
    for metric in metrics:
        if not isinstance(metric, Metric):
            hint = "declare Metric(name, unit, lower_is_better) of pipeline.records.metrics"
            raise SecateurError(f"{whose} declares the metric {metric!r} without what it is", hint=hint)


@cache
def metrics_of_stages() -> Mapping[str, Metric]:
    """Return what stages declare, by name; SecateurError where two declarations of one name differ."""
    metrics: dict[str, Metric] = {}
    for name, stage in instances_of(STAGES_GROUP, "stage").items():
        _add(metrics, f"the stage {name}", stage.metrics)
    return MappingProxyType(metrics)


@cache
def every_metric() -> Mapping[str, Metric]:
    """Return all declarations by name: first what only targets have, the main number of each first, then the stages'.

    A kind of target whose package can't be imported declares nothing here: using it reports the error.
    """
    known = metrics_of_stages()
    metrics = dict(known)
    for point in named_in(TARGETS_GROUP):
        try:
            driver = point.load()()
        except ImportError:
            continue
        _add(metrics, f"the kind of target {point.name}", driver.metrics)
    alone = {name: metric for name, metric in metrics.items() if name not in known}
    return MappingProxyType({**alone, **known})


def _add(known: dict[str, Metric], whose: str, metrics: Iterable[Metric]) -> None:
    metrics = tuple(metrics)
    require_declared(whose, metrics)
    for metric in metrics:
        if known.setdefault(metric.name, metric) != metric:
            what = f"{whose} declares the metric {metric.name} otherwise than another package does"
            raise SecateurError(what, hint="give it another name, or the same declaration")


def declared(metric: str) -> Metric | None:
    """Return the declaration of a metric, its output apart, or of a comparison with the source's; None if none is."""
    name = metric_and_output(metric)[0]
    return _among(metrics_of_stages(), name) or _among(every_metric(), name)


def declared_by_stages(name: str) -> Metric | None:
    """Return what a stage declares of a metric without output, or of its family; None if no stage does."""
    return _named(metrics_of_stages(), name)


def comparison(metric: str) -> str | None:
    """Name the metric that compares a stage's with the source's: `accuracy_drop`, `mse_ratio[age]`; or None."""
    bare, output = metric_and_output(metric)
    declaration = _named(metrics_of_stages(), bare)
    compared = declaration and declaration.compared
    return of_output(compared.name, output) if compared else None


def requested() -> tuple[Metric, ...]:
    """Return the metrics that `data.metrics` can name."""
    return tuple(metric for metric in metrics_of_stages().values() if metric.requested)


def is_requested(name: str) -> bool:
    """Return whether `data.metrics` can name this metric, the user's own functions apart."""
    return any(metric.named(name) for metric in requested())


def _named(known: Mapping[str, Metric], name: str) -> Metric | None:
    return known.get(name) or next((member for metric in known.values() if (member := metric.named(name))), None)


def _among(known: Mapping[str, Metric], name: str) -> Metric | None:
    """Return the declaration of a name, or of what it compares with the source's."""
    if own := _named(known, name):
        return own
    for ending in ("_drop", "_ratio"):
        base = _named(known, name.removesuffix(ending)) if name.endswith(ending) else None
        if base and base.compared and base.compared.name == name:
            return base.compared
    return None
