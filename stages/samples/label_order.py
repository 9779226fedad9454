"""Find out whether labels number the classes in another order than the model's outputs: sorted by name, or from 1.

A network whose labels are in another order is wrong in a regular way: it predicts one and the same other class for each
label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stages.samples.preprocess_trial import Tried

LEAST_PER_CLASS = 10  # samples: with fewer, some order always fits chance predictions


def reordered(tried: Sequence[Tried], classes: int) -> tuple[Tried, tuple[int, ...]] | None:
    """Return the trial that is right most often if classes are numbered in the order that suits it, and that order.

    The trial has labels in that order: the number by which the model knows each class of the data. None if there are
    too few samples to tell.
    """
    enough = [trial for trial in tried if trial.samples >= LEAST_PER_CLASS * classes]
    orders = [_order_of(trial, classes) for trial in enough]
    found = [(replace(trial, labels=order[trial.labels]), order) for trial, order in zip(enough, orders, strict=True)]
    if not found:
        return None
    best, order = max(found, key=lambda pair: pair[0].accuracy)
    return best, tuple(map(int, order))


def _order_of(trial: Tried, classes: int) -> Any:
    """Return for each label another one, all different, so that most samples are right (classes,)."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (trial.labels, trial.predicted), 1)
    counts[np.diag_indices(classes)] += 1  # a label without samples keeps its number if nothing speaks against it
    return linear_sum_assignment(counts, maximize=True)[1]
