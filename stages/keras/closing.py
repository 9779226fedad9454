"""Compute outputs before a closing softmax or sigmoid, which would hide how much two models differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasModel

SQUASHING = ("softmax", "log_softmax", "sigmoid")


@contextmanager
def before_squashing(model: KerasModel) -> Iterator[Any]:
    """Yield the model up to the input of a closing softmax or sigmoid; meanwhile its closing layers are linear.

    The model's own layers compute, because copies of deep networks cost more than everything else here.
    """
    restore: list[tuple[Any, Any]] = []
    outputs = list(model.outputs)
    try:
        for index, tensor in enumerate(model.outputs):
            layer, node_index, _ = tensor._keras_history  # noqa: SLF001 - Keras' only way from a tensor to its layer
            if type(layer).__name__ == "Softmax":
                # By node, because a layer that is called twice has an input for each call.
                outputs[index] = layer.get_input_at(node_index)
                continue
            if type(layer).__module__.startswith("tensorflow_model_optimization."):
                layer = layer.layer  # the wrapped layer computes
            if getattr(getattr(layer, "activation", None), "__name__", "") in SQUASHING:
                restore.append((layer, layer.activation))
                # The graph refers to the layer and not to its function, so that the model below computes with what
                # stands here now.
                layer.activation = import_keras().activations.linear
        yield import_keras().Model(model.inputs, outputs)
    finally:
        for layer, activation in restore:
            layer.activation = activation
