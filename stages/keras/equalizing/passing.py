"""Tell which calls of layers hand channels on one by one, so that factors and offsets of channels go through them."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.keras.layer_work import of_keras
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer

DIMENSIONS = ("1D", "2D", "3D")
POOLS = tuple(f"{kind}Pooling{d}" for kind in ("Max", "Average", "GlobalMax", "GlobalAverage") for d in DIMENSIONS)
MOVES = tuple(f"{kind}{d}" for kind in ("UpSampling", "Cropping") for d in DIMENSIONS)
PADS = frozenset(f"ZeroPadding{d}" for d in DIMENSIONS)
IDENTITIES = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"),
    *("GaussianDropout", "GaussianNoise", "ActivityRegularization"),
)
LINEAR = frozenset({*POOLS, *MOVES, *IDENTITIES, "Flatten", "Reshape"})  # they commute with offsets too
ORDERED = frozenset(name for name in POOLS if "Max" in name)  # not with a negative factor
SUMS = frozenset({"Add", "Average"})
HOMOGENEOUS = frozenset({"linear", "relu", "leaky_relu"})  # activations by name


def activation_of(layer: KerasLayer) -> str:
    """Return the name of an activation of Keras' own that `layer` applies; "" for any other."""
    activations = import_keras().activations
    function: Any = getattr(layer, "activation", activations.linear)
    name = str(getattr(function, "__name__", ""))
    return name if function is getattr(activations, name, None) else ""


def is_homogeneous(layer: KerasLayer) -> bool:
    """Return whether f(a·x) = a·f(x) for any positive a of each channel."""
    kind = type(layer).__name__
    if not of_keras(layer):
        return False
    if kind == "ReLU":
        return layer.max_value is None and not layer.threshold
    if kind == "Activation":
        return activation_of(layer) in HOMOGENEOUS
    return kind in LINEAR or kind in PADS or kind in ("LeakyReLU", "PReLU")


def is_linear(layer: KerasLayer) -> bool:
    """Return whether f(x + b) = f(x) + b for an offset of each channel, and f(-x) = -f(x) unless it is `ORDERED`."""
    if not of_keras(layer):
        return False
    if type(layer).__name__ == "Activation":
        return activation_of(layer) == "linear"
    return type(layer).__name__ in LINEAR


def passed(node: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Return what is known of each input channel (C,) by output channel, for a call that hands channels on.

    None if channels don't keep to the last axis.
    """
    layer, before, after = node.layer, node.keras_inputs[0].shape, node.outputs.shape
    if getattr(layer, "data_format", None) == "channels_first" or after[-1] is None:
        return None
    if after[-1] == before[-1]:
        return values
    if type(layer).__name__ in ("Flatten", "Reshape") and after[-1] % before[-1] == 0 and len(after) == 2:
        return np.tile(values, after[-1] // before[-1])
    return None
