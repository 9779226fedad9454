"""Find the cause of NaN or infinity in a model's outputs, with which nothing could be compared."""

from __future__ import annotations

import math

from pipeline.errors import ModelError
from stages.keras.types import KerasModel


def broken_weight(model: KerasModel) -> str | None:
    """Return a sentence on the first weight that holds NaN or infinity; None if none does."""
    import numpy as np

    for layer in model.layers:
        for weight in layer.weights:
            if not np.isfinite(np.asarray(weight, np.float64)).all():
                return f"layer {layer.name!r} holds NaN or infinity in its weight {weight.name.split(':')[0]!r}"
    return None


def blame(model: KerasModel, difference: float, where: str) -> None:
    """Raise ModelError if `difference`, of the model's outputs, is not finite: names a weight, else the first layer."""
    from stages.keras.layer_calls import first_not_finite
    from stages.keras.normal_form import random_inputs

    if math.isfinite(difference):
        return
    broken = broken_weight(model)
    if broken is not None:
        raise ModelError(broken, where=where, hint="its training has diverged: take a copy from before")
    inputs = dict(zip(model.input_names, random_inputs(model), strict=True))
    layer = first_not_finite(model, inputs)
    if layer is not None:
        hint = "look at what its weights grew to in training: nothing that comes after it can be right"
        raise ModelError(f"layer {layer!r} gives NaN or infinity on random inputs", where=where, hint=hint)
