"""Models on which a check sees more than on the one that is pruned."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras_format import put_weights, renew_constants
from stages.tf_runtime import import_keras

HALF = frozenset({"float16", "bfloat16", "mixed_float16", "mixed_bfloat16"})


def in_float32(model: Any) -> Any:
    """`model`, or where it computes in half precision, a copy of it that computes in float32."""
    if not any(layer.dtype_policy.name in HALF for layer in model._flatten_layers()):  # noqa: SLF001 - nested ones too
        return model
    classes = {type(layer).__name__: type(layer) for layer in model.layers}  # the user's own may be registered nowhere
    with import_keras().utils.custom_object_scope(classes):
        copy = type(model).from_config(_without_half(model.get_config()))
    put_weights(copy, model.get_weights())
    return copy


def randomise_weights(model: Any, seed: int = 0) -> Any:
    """`model` itself, with weights by which every channel counts.

    Kernels are normal and keep the size of signals, everything else (scales, shifts, variances) is around 1.
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


def _without_half(value: Any) -> Any:
    """A configuration in which each policy or type of half precision is float32."""
    if isinstance(value, dict):
        if value.get("class_name") == "Policy" and value["config"]["name"] in HALF:
            return "float32"
        return {key: _without_half(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_half(item) for item in value)
    return "float32" if isinstance(value, str) and value in HALF else value
