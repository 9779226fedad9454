"""What a model's loss is, told from the model itself and from what its targets are."""

from __future__ import annotations

from typing import Any, Literal

from stages.keras_format import random_inputs
from stages.tf_runtime import import_keras

RegressionLoss = Literal["mse", "mae", "huber"]


def classification_loss(model: Any, *, dense: bool = False) -> Any:
    """Keras' cross-entropy over integer labels, binary for one output, on logits or probabilities as the model has.

    With `dense`, labels are shares of each class, (N, classes).
    """
    losses = import_keras().losses
    kind = losses.CategoricalCrossentropy if dense else losses.SparseCategoricalCrossentropy
    if is_binary(model):
        kind = losses.BinaryCrossentropy
    return kind(from_logits=gives_logits(model))


def multilabel_loss(model: Any) -> Any:
    """Keras' binary cross-entropy, the mean over labels, for targets (N, labels) in 0…1."""
    return import_keras().losses.BinaryCrossentropy(from_logits=gives_logits(model, exclusive=False))


def regression_loss(name: RegressionLoss) -> Any:
    """Keras' loss between numbers (N, k)."""
    losses = import_keras().losses
    return {"mse": losses.MeanSquaredError, "mae": losses.MeanAbsoluteError, "huber": losses.Huber}[name]()


def is_binary(model: Any) -> bool:
    """Whether the model's one output tells two classes apart."""
    return bool(model.output_shape[-1] == 1)


def gives_logits(model: Any, *, exclusive: bool = True) -> bool:
    """Whether outputs are logits: told from the outputs themselves, wherever in the graph a softmax or sigmoid stands.

    Probabilities lie in 0…1 and, unless there is only one or classes don't exclude each other, add up to 1 for every
    input; logits of random inputs don't.
    """
    import numpy as np

    outputs = np.asarray(model(random_inputs(model, samples=16), training=False), dtype=np.float64)
    outputs = outputs[np.isfinite(outputs).all(axis=-1)]  # what diverged tells nothing; training will say so
    within = bool(np.all((outputs >= 0) & (outputs <= 1)))
    free = is_binary(model) or not exclusive
    return not (within and (free or bool(np.allclose(outputs.sum(-1), 1.0, atol=1e-3))))
