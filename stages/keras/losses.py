"""Derive the loss of a model's output from the model itself and from its targets."""

from __future__ import annotations

from typing import Any, Literal

from pipeline.data import Task
from stages.keras.normal_form import random_inputs
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasModel

RegressionLoss = Literal["mse", "mae", "huber"]


def task_loss(model: KerasModel, task: Task, output: int = 0) -> Any:
    """Return Keras' usual loss of one of the model's outputs, for targets of a split with that task."""
    if task == "classes":
        return classification_loss(model, output)
    return multilabel_loss(model, output) if task == "multilabel" else regression_loss("mse")


def classification_loss(model: KerasModel, output: int = 0, *, dense: bool = False) -> Any:
    """Return Keras' cross-entropy over integer labels, binary for one output, on logits or probabilities.

    With `dense`, labels are shares of each class, (N, classes).
    """
    losses = import_keras().losses
    kind = losses.CategoricalCrossentropy if dense else losses.SparseCategoricalCrossentropy
    if is_binary(model, output):
        kind = losses.BinaryCrossentropy
    return kind(from_logits=gives_logits(model, output))


def multilabel_loss(model: KerasModel, output: int = 0) -> Any:
    """Return Keras' binary cross-entropy, the mean over labels, for targets (N, labels) in 0…1."""
    return import_keras().losses.BinaryCrossentropy(from_logits=gives_logits(model, output, exclusive=False))


def regression_loss(name: RegressionLoss) -> Any:
    """Return Keras' loss between numbers (N, k)."""
    losses = import_keras().losses
    return {"mse": losses.MeanSquaredError, "mae": losses.MeanAbsoluteError, "huber": losses.Huber}[name]()


def is_binary(model: KerasModel, output: int = 0) -> bool:
    """Return whether an output is one number, which distinguishes two classes."""
    return bool(model.outputs[output].shape[-1] == 1)


def gives_logits(model: KerasModel, output: int = 0, *, exclusive: bool = True) -> bool:
    """Return whether an output gives logits, by its values, wherever in the graph a softmax or sigmoid is.

    Probabilities lie in 0…1 and, unless there is only one or classes don't exclude each other, add up to 1 for every
    input; logits of random inputs don't.
    """
    import numpy as np

    results = model(random_inputs(model, samples=16), training=False)
    outputs = np.asarray(results[output] if isinstance(results, list | tuple) else results, dtype=np.float64)
    outputs = outputs[np.isfinite(outputs).all(axis=-1)]  # diverged values tell nothing; training will report them
    within = bool(np.all((outputs >= 0) & (outputs <= 1)))
    free = is_binary(model, output) or not exclusive
    return not (within and (free or bool(np.allclose(outputs.sum(-1), 1.0, atol=1e-3))))
