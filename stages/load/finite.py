"""Weights that are no numbers: a model that diverged in training computes nothing that a check could compare."""

from __future__ import annotations

import math
from typing import Any

from pipeline.errors import ModelError


def blame_weights(model: Any, difference: float, where: str) -> None:
    """ModelError with layer and weight where `difference`, of the model's outputs, is not finite by its weights."""
    import numpy as np

    if math.isfinite(difference):
        return
    for layer in model.layers:
        for weight in layer.weights:
            if not np.isfinite(np.asarray(weight, np.float64)).all():
                what = f"layer {layer.name!r} holds NaN or infinity in its weight {weight.name.split(':')[0]!r}"
                raise ModelError(what, where=where, hint="its training has diverged: take a copy from before")
