"""Make models on which a check sees more than on the one that is pruned."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.normal_form import renew_constants
from stages.keras.types import KerasModel


def randomize_weights(model: KerasModel, seed: int = 0) -> Any:
    """Set weights of `model` with which every channel counts, and return it.

    Kernels are normal and keep the scale of signals, everything else (scales, shifts, variances) is around 1.
    """
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.dtype.is_floating:
            variable.assign(_random_weight(variable.name, tuple(variable.shape), rng))
    renew_constants(model)
    return model


def _random_weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    if len(shape) < 2 or "variance" in name:
        return rng.uniform(0.5, 1.5, shape)
    summed = shape[:-2] if "depthwise" in name else shape[:-1]
    return rng.normal(0, max(1, prod(summed)) ** -0.5, shape)
