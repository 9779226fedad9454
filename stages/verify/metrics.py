"""Measure how good outputs are, with intervals for proportions: the same code for Keras models and exported files.

Outputs are (N, …) arrays of one model output; targets are those of a `Split`. Scores are probabilities: logits go
through a softmax, or a sigmoid if classes don't exclude each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.data.samples import Task
from pipeline.data.spec import Metrics
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.recipe.errors import nearest
from pipeline.recipe.user_code import told
from pipeline.records.metrics import MATRIX, Metric, of_output
from stages.samples.proportions import wilson_interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ACCURACY = Metric(
    "accuracy",
    "share",
    lower_is_better=False,
    against_source="drop",
    needs_labels=True,
    requested=True,
    proportion=True,
    judged_as="accuracy",
    tolerance=0.01,  # one point
    told="acc {:.2%}",
)
MSE = Metric(
    "mse",
    "",
    lower_is_better=True,
    against_source="ratio",
    needs_labels=True,
    requested=True,
    judged_as="mse",
    told="mse {:.4g}",
)
MACRO_F1, AUC = (
    Metric(name, "share", lower_is_better=False, against_source="drop", needs_labels=True, requested=True)
    for name in ("macro_f1", "auc")
)
TOP_K = replace(MACRO_F1, name="top_K", proportion=True)
CONFUSION = Metric("confusion_matrix", MATRIX, lower_is_better=None, needs_labels=True, requested=True)
MAE = Metric("mae", "", lower_is_better=True, against_source="ratio", needs_labels=True, requested=True)
QUALITY = (ACCURACY, MACRO_F1, AUC, CONFUSION, MSE, MAE, TOP_K)
DEFAULTS: Mapping[Task, tuple[str, ...]] = {
    "classes": ("accuracy",),
    "multilabel": ("accuracy", "macro_f1"),
    "regression": ("mse", "mae"),
}
POSSIBLE: Mapping[Task, tuple[str, ...]] = {
    "classes": ("accuracy", "top_K", "macro_f1", "auc", "confusion_matrix"),
    "multilabel": ("accuracy", "macro_f1", "auc"),
    "regression": ("mse", "mae"),
}

OwnMetric = Callable[[Any, Any], Any]  # targets and outputs to a number


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Hold metrics by flat name, intervals of those that are proportions, and the confusion matrix if requested.

    Row i, column j of the matrix counts the samples of class i that were taken for class j.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    confusion: list[list[int]] | None = None


def metrics_for(task: Task, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the metrics to compute: those wanted, or the task's own; PreconditionError if the task lacks one."""
    names = DEFAULTS[task] if wanted is None else tuple(wanted)
    for name in names:
        if not _known(name, task):
            hint = f"allowed: {', '.join(POSSIBLE[task])}, module:function"
            raise PreconditionError(f"{name} is not a metric for task {task}", where="data.metrics", hint=hint)
    return names


def metrics_by_output(tasks: Mapping[str, Task], wanted: Metrics | None) -> dict[str, tuple[str, ...]]:
    """Return the metrics of each output that has targets: those wanted, or its task's own.

    From a list for all outputs each takes those of its task. PreconditionError for metrics of no output, and for
    outputs without targets.
    """
    if len(tasks) == 1 and not isinstance(wanted, Mapping):
        return {name: metrics_for(task, wanted) for name, task in tasks.items()}
    if isinstance(wanted, Mapping):
        for name in wanted:
            if name not in tasks:
                what, hint = f"{name!r} is not an output with targets", nearest(name, list(tasks))
                raise PreconditionError(what, where="data.metrics", hint=hint)
        return {name: metrics_for(task, wanted.get(name)) for name, task in tasks.items()}
    for name in wanted or ():
        if not any(_known(name, task) for task in tasks.values()):
            what = f"{name} is not a metric for any of the tasks here: {', '.join(sorted(set(tasks.values())))}"
            raise PreconditionError(what, where="data.metrics", hint="give them by output: `metrics: {NAME: [mae]}`")
    return {output: _of_task(task, wanted) for output, task in tasks.items()}


def numbers_of(task: Task, wanted: Metrics | None, output: str | None) -> tuple[str, ...]:
    """Return the flat names of the numbers that an output of this task has, without checking what is wanted.

    `output` is None if the model has one.
    """
    if task not in DEFAULTS:
        return ()
    if isinstance(wanted, Mapping):
        wanted = tuple(name for of, names in wanted.items() if output in (None, of) for name in names)
    return tuple(name.rpartition(":")[2] for name in _of_task(task, wanted) if name != CONFUSION.name)


def _of_task(task: Task, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return those of the wanted metrics that this task has; its own if there are none."""
    return tuple(name for name in wanted or () if _known(name, task)) or DEFAULTS[task]


def _known(name: str, task: Task) -> bool:
    return ":" in name or ("top_K" if name.startswith("top_") else name) in POSSIBLE[task]


def flat(found: Mapping[str, Evaluation], *, several: bool) -> Evaluation:
    """Return the metrics of all outputs under one name each: `accuracy[age]` with several outputs, else `accuracy`.

    Without a confusion matrix, which belongs to one output.
    """
    named = {output: output if several else None for output in found}
    metrics = {of_output(k, named[o]): v for o, evaluation in found.items() for k, v in evaluation.metrics.items()}
    intervals = {of_output(k, named[o]): v for o, evaluation in found.items() for k, v in evaluation.intervals.items()}
    return Evaluation(metrics, intervals)


def evaluate(
    outputs: ArrayLike,
    targets: NDArray[Any],
    task: Task,
    names: Sequence[str],
    own: Mapping[str, OwnMetric] | None = None,
    *,
    logits: bool | None = None,
) -> Evaluation:
    """Compute the metrics `names` of outputs (N, …) and targets; `own` has the user's functions by `module:function`.

    `logits` says what outputs of a classifier are; without it their values decide.
    """
    import numpy as np

    outputs = np.asarray(outputs)
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    scores, labels, confusion = outputs, targets, None
    if task != "regression":
        scores = probabilities(outputs, task, are_logits(outputs, task) if logits is None else logits)
        labels = np.reshape(targets, -1) if task == "classes" else np.asarray(targets) > 0.5
    for name in names:
        if name == "accuracy" or name.startswith("top_"):
            right = _right(scores, labels, task, int(name.removeprefix("top_")) if name != "accuracy" else 1)
            metrics[name] = right / len(outputs)
            intervals[name] = wilson_interval(right, len(outputs))
        elif name == "confusion_matrix":
            confusion = confusion_matrix(scores, labels).tolist()
        elif ":" in name:
            metrics[name.partition(":")[2]] = _own_metric(name, (own or {})[name], targets, outputs)
        else:
            metrics[name] = _MEASURES[name](scores, labels, task)
    return Evaluation(metrics, intervals, confusion)


def are_logits(outputs: ArrayLike, task: Task) -> bool:
    """Return whether outputs are logits: not probabilities, which lie in 0…1 and add up to 1 over classes."""
    import numpy as np

    outputs = np.asarray(outputs, np.float64)
    if not ((outputs >= 0) & (outputs <= 1)).all():
        return True
    return task == "classes" and outputs.shape[1] > 1 and not np.allclose(outputs.sum(axis=1), 1, atol=1e-3)


def probabilities(outputs: ArrayLike, task: Task, logits: bool) -> NDArray[Any]:
    """Return scores (N, classes), two columns for a single output with two classes; (N, k) for multilabel."""
    import numpy as np

    values = np.asarray(outputs, np.float64)
    if logits and task == "classes" and values.shape[1] > 1:
        # Without the largest, which cancels out, exponentials would overflow.
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        shares: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
        return shares
    if logits:
        values = 0.5 * (1 + np.tanh(values / 2))  # the sigmoid in a form that never overflows
    return np.concatenate([1 - values, values], axis=1) if task == "classes" and values.shape[1] == 1 else values


def confusion_matrix(scores: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Return counts (classes, classes): the label's row, the largest score's column."""
    import numpy as np

    classes = scores.shape[1]
    pairs = labels.astype(np.int64) * classes + scores.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _right(scores: NDArray[Any], labels: NDArray[Any], task: Task, k: int) -> float:
    """Return how many samples have their class among the `k` best (the first of equals is the best).

    With several labels a sample counts by the share of them that is right, like Keras' accuracy; the interval is then
    as wide as if they were right or wrong together, so never too narrow.
    """
    import numpy as np

    if task == "multilabel":
        return float(((scores > 0.5) == labels).mean(axis=1).sum())
    if k >= scores.shape[1] > 1 and k > 1:
        what = f"top_{k} of {scores.shape[1]} classes is always 1"
        raise PreconditionError(what, where="data.metrics", hint="leave it out, or ask for fewer")
    own = np.take_along_axis(scores, labels.astype(np.int64)[:, None], axis=1)
    # As `argmax` decides among equals, so that accuracy and confusion matrix agree.
    before = np.arange(scores.shape[1]) < labels[:, None]
    rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return int((rank < k).sum())


def _macro_f1(scores: NDArray[Any], labels: NDArray[Any], task: Task) -> float:
    """Return the mean F1 (harmonic mean of precision and recall) over classes that occur or were predicted."""
    import numpy as np

    if task == "classes":
        counts = confusion_matrix(scores, labels)
        hits, occurring, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    else:
        taken = scores > 0.5
        hits, occurring, predicted = (taken & labels).sum(axis=0), labels.sum(axis=0), taken.sum(axis=0)
    total = occurring + predicted
    return float((2 * hits[total > 0] / total[total > 0]).mean()) if (total > 0).any() else 0.0


def _auc(scores: NDArray[Any], labels: NDArray[Any], task: Task) -> float:
    """Return the area under the ROC curve; the mean over classes one-vs-rest, or over labels, if both occur."""
    import numpy as np

    if task == "classes":
        places = [1] if scores.shape[1] == 2 else range(scores.shape[1])
        pairs = [(scores[:, index], labels == index) for index in places]
    else:
        pairs = [(scores[:, index], labels[:, index]) for index in range(scores.shape[1])]
    areas = [_area(column, positive) for column, positive in pairs if 0 < positive.sum() < len(positive)]
    if not areas:
        raise PreconditionError("auc needs samples of two classes, all are of one", where="data.metrics")
    return float(np.mean(areas))


def _area(scores: NDArray[Any], positive: NDArray[Any]) -> float:
    """Return the chance that a positive sample has the higher score than a negative one; equal scores count half."""
    import numpy as np

    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # from 1, the mean rank among equals
    hits = int(positive.sum())
    # The Mann-Whitney U statistic over the number of pairs: no curve has to be integrated.
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * (len(scores) - hits)))


def _errors(outputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    return np.reshape(outputs, (len(outputs), -1)).astype(np.float64) - np.reshape(targets, (len(outputs), -1))


def _mse(outputs: NDArray[Any], targets: NDArray[Any], _task: Task) -> float:
    return float((_errors(outputs, targets) ** 2).mean())


def _mae(outputs: NDArray[Any], targets: NDArray[Any], _task: Task) -> float:
    return float(abs(_errors(outputs, targets)).mean())


_MEASURES: Mapping[str, Callable[[NDArray[Any], NDArray[Any], Task], float]] = {
    "macro_f1": _macro_f1,
    "auc": _auc,
    "mse": _mse,
    "mae": _mae,
}


def _own_metric(name: str, function: OwnMetric, targets: NDArray[Any], outputs: NDArray[Any]) -> float:
    """Return the user's function's value; PostconditionError if it fails or the value is not finite."""
    try:
        value = float(function(targets, outputs))
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        what = f"the metric {name} failed: {told(error)}"
        raise PostconditionError(
            what, where="data.metrics", hint="it is given targets and outputs as arrays"
        ) from error
    if not math.isfinite(value):
        raise PostconditionError(f"the metric {name} gave {value}", where="data.metrics")
    return value
