"""What a classifier's loss is, told from the model itself."""

from __future__ import annotations

from typing import Any

from stages.keras_format import random_inputs
from stages.tf_runtime import import_keras


def classification_loss(model: Any) -> Any:
    """Keras' cross-entropy over integer labels, binary for one output, on logits or probabilities as the model has."""
    losses = import_keras().losses
    kind = losses.BinaryCrossentropy if is_binary(model) else losses.SparseCategoricalCrossentropy
    return kind(from_logits=gives_logits(model))


def is_binary(model: Any) -> bool:
    """Whether the model's one output tells two classes apart."""
    return bool(model.output_shape[-1] == 1)


def gives_logits(model: Any) -> bool:
    """Whether outputs are logits: told from the outputs themselves, wherever in the graph a softmax or sigmoid stands.

    Probabilities lie in 0…1 and, unless there is only one, add up to 1 for every input; logits of random inputs don't.
    """
    import numpy as np

    outputs = np.asarray(model(random_inputs(model, samples=16), training=False), dtype=np.float64)
    outputs = outputs[np.isfinite(outputs).all(axis=-1)]  # what diverged tells nothing; training will say so
    within = bool(np.all((outputs >= 0) & (outputs <= 1)))
    return not (within and (is_binary(model) or bool(np.allclose(outputs.sum(-1), 1.0, atol=1e-3))))
