"""Determine what targets are: class numbers, zeros and ones, or real numbers. If it is unclear, the recipe must say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.data.samples import Task
from pipeline.errors import DataError
from pipeline.recipe.errors import nearest

COUNT = "number the classes from 0, in the order of the model's outputs"
SAY_SO = "say data.task: classes, multilabel, regression or unlabelled"


def tasks_and_targets(
    targets: Any, said: Task | Mapping[str, Task] | None, told: Task | None, where: str
) -> tuple[Task | dict[str, Task], Any]:
    """Apply `task_and_targets` to one output, or by output if `targets` is a mapping; unlabelled ones are left out.

    `said` is what the recipe says, `told` what the source knows. DataError where the recipe names an output that has no
    targets, or names outputs where targets have no names.
    """
    if not isinstance(targets, Mapping):
        if isinstance(said, Mapping):
            hint = "give targets by output (y_train__NAME in an npz), or one task"
            raise DataError("data.task is by output, the targets have no names", where=where, hint=hint)
        return task_and_targets(targets, said or told, where)
    tasks = said if isinstance(said, Mapping) else dict.fromkeys(targets, said)
    for name in sorted(tasks.keys() - targets.keys()):
        what = f"data.task names {name!r}, which has no targets here"
        raise DataError(what, where=where, hint=nearest(name, sorted(targets)))
    by_output = {name: task_and_targets(y, tasks.get(name), f"{where}, {name}") for name, y in targets.items()}
    by_output = {name: (task, y) for name, (task, y) in by_output.items() if task != "unlabelled"}
    if not by_output:
        return "unlabelled", None
    return {name: task for name, (task, _) in by_output.items()}, {name: y for name, (_, y) in by_output.items()}


def task_and_targets(targets: Any, said: Task | None, where: str) -> tuple[Task, Any]:
    """Return the task, and targets in its form: integers (N,), float32 zeros and ones (N, k), float32 (N, …), or None.

    `said` is what the recipe says: if `classes`, one-hot rows become class numbers. DataError if targets do not fit the
    task, or if they could mean two things.
    """
    import numpy as np

    if targets is None or said == "unlabelled":
        if said not in (None, "unlabelled"):
            hint = "add them (y_NAME in an npz, `label` elsewhere), or say data.task: unlabelled"
            raise DataError(f"data.task is {said}, and these samples have no targets", where=where, hint=hint)
        return "unlabelled", None
    y = np.asarray(targets)
    if y.dtype.kind in "US" and y.size:
        raise DataError(f"targets are words, such as {str(y.flat[0])!r}: numbers are needed", where=where, hint=COUNT)
    if y.dtype.kind not in "biuf":
        raise DataError(f"targets are {y.dtype}: numbers are needed", where=where, hint=COUNT)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        first = int(np.flatnonzero(~np.isfinite(y.reshape(len(y), -1)).all(axis=1))[0])
        raise DataError(f"the target of sample {first} is NaN or infinite", where=where)
    task = said or _told(y, where)
    return task, _in_form(y, task, where)


def _told(y: Any, where: str) -> Task:
    whole = y.dtype.kind in "biu"
    binary = bool(((y == 0) | (y == 1)).all())
    if whole and (y.ndim == 1 or y.shape[1:] == (1,)):
        return "classes"
    # Rows with exactly one 1 each are as likely one-hot classes: then the recipe has to say. So are zeros and ones that
    # are stored as floats.
    if whole and y.ndim == 2 and binary and not is_one_hot(y):
        return "multilabel"
    if not whole and not binary:
        return "regression"
    what = f"targets are {y.dtype} of shape {y.shape}: integer class labels of shape (N,) are needed"
    if y.ndim == 2 and binary:
        what = f"targets are {y.dtype} zeros and ones of shape {y.shape}, no integer class labels of shape (N,)"
    raise DataError(what, where=where, hint=f"{SAY_SO}; of one-hot labels, classes")


def is_one_hot(y: Any) -> bool:
    """Return whether targets are rows (N, k) of zeros with a single 1, whose place may be a class number."""
    return y.ndim == 2 and y.shape[1] > 1 and bool((((y == 0) | (y == 1)).all(axis=1) & (y.sum(axis=1) == 1)).all())


def _classes(y: Any, where: str) -> Any:
    import numpy as np

    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if is_one_hot(y):
        return y.argmax(axis=1)
    if y.ndim == 1 and y.dtype.kind in "bf" and (y == np.round(y)).all():
        y = y.astype(np.int64)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(
            f"targets are {y.dtype} of shape {y.shape}: integer class labels of shape (N,) are needed", where=where
        )
    if len(y) and y.min() < 0:
        raise DataError(f"the label {y.min()}: classes count from 0", where=where, hint=COUNT)
    return y


def _multilabel(y: Any, where: str) -> Any:
    import numpy as np

    if y.ndim != 2 or not ((y == 0) | (y == 1)).all():
        raise DataError(
            f"targets are {y.dtype} of shape {y.shape}: multilabel needs (N, k) zeros and ones", where=where
        )
    return y.astype(np.float32)


def _in_form(y: Any, task: Task, where: str) -> Any:
    import numpy as np

    if task == "classes":
        return _classes(y, where)
    return _multilabel(y, where) if task == "multilabel" else y.astype(np.float32)
