"""Models that compute NaN or infinity: then nothing could be compared, and whose fault it is can be told."""

from __future__ import annotations

import math
from typing import Any

from pipeline.errors import ModelError


def broken_weight(model: Any) -> str | None:
    """A sentence on the first weight that holds NaN or infinity; None where none does."""
    import numpy as np

    for layer in model.layers:
        for weight in layer.weights:
            if not np.isfinite(np.asarray(weight, np.float64)).all():
                return f"layer {layer.name!r} holds NaN or infinity in its weight {weight.name.split(':')[0]!r}"
    return None


def blame(model: Any, difference: float, where: str) -> None:
    """ModelError where `difference`, of the model's outputs, is not finite: by a weight, else by the first layer."""
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
