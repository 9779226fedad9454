"""Give a network the weights with which its training would begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.keras.macs import kernels_of
from stages.keras.normal_form import newly_built, put_weights
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel


@dataclass(frozen=True, slots=True)
class Untrained:
    """Hold a network with fresh weights, and what its user has to know about them, by the names of layers and weights.

    `thawed` were frozen in the model; `kept` have its values, since their initializers are not known; `alike` are
    kernels in which an initializer made all weights equal.
    """

    model: Any
    thawed: tuple[str, ...]
    kept: tuple[str, ...]
    alike: tuple[str, ...]


def untrained(model: KerasModel, seed: int) -> Untrained:
    """Return a network like `model`, which holds no nested models, with weights from its layers' own initializers.

    The statistics of batch normalization begin anew as well. Every layer can be trained: frozen, random ones would stay
    random. What no training gave stays: the statistics and vocabularies of preprocessing layers.
    """
    import_keras().utils.set_random_seed(seed)
    fresh = newly_built(model)
    thawed, kept = [], []
    for old, new in zip(model.layers, fresh.layers, strict=True):
        if _is_preprocessing(old) or _holds_a_variable(old):
            put_weights(new, old.get_weights())
            kept += [] if _is_preprocessing(old) else [old.name]
        elif not old.trainable and old.weights:
            thawed.append(old.name)
    for name in thawed:
        fresh.get_layer(name).trainable = True
    return Untrained(fresh, tuple(thawed), tuple(kept), tuple(_alike(fresh)))


def _is_preprocessing(layer: KerasLayer) -> bool:
    from tf_keras.src.engine.base_preprocessing_layer import PreprocessingLayer

    return isinstance(layer, PreprocessingLayer)


def _holds_a_variable(layer: KerasLayer) -> bool:
    """Return whether a layer is an Embedding of one row: how `load` holds a variable of a layer that tf_keras lacks."""
    return type(layer).__name__ == "Embedding" and layer.input_dim == 1


def _alike(model: KerasModel) -> Iterator[str]:
    """Yield kernels without two different weights: files that another framework wrote may name no real initializer."""
    for kernel in kernels_of(model):
        values = kernel.numpy()
        if values.size > 1 and bool(np.all(values == values.flat[0])):
            yield str(kernel.name).partition(":")[0]
