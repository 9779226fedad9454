"""Compute outputs before a closing softmax or sigmoid, which would hide how much two models differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel

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
            layer = _computing(layer)
            if _activation(layer) in SQUASHING:
                restore.append((layer, layer.activation))
                # The graph refers to the layer and not to its function, so that the model below computes with what
                # stands here now.
                layer.activation = import_keras().activations.linear
        yield import_keras().Model(model.inputs, outputs)
    finally:
        for layer, activation in restore:
            layer.activation = activation


def closing_layers(model: KerasModel) -> dict[str, str]:
    """Return the dense layers of vectors, called once, whose sums a softmax or sigmoid closes: by name, with which.

    Not those whose sums anything else reads, or the network gives as well.
    """
    found = {}
    for tensor in model.outputs:
        layer, node_index, _ = tensor._keras_history  # noqa: SLF001 - as above
        closed_by = _activation(layer)
        if type(layer).__name__ in ("Softmax", "Activation"):
            sums = layer.get_input_at(node_index)
            layer = sums._keras_history[0]  # noqa: SLF001 - as above
            alone = len(layer.outbound_nodes) == 1 and not any(sums is output for output in model.outputs)
            closed_by = closed_by if alone and _activation(layer) == "linear" else ""
        dense = type(layer).__name__ == "Dense" and len(layer.inbound_nodes) == 1 and len(layer.output_shape) == 2
        if dense and closed_by in ("softmax", "sigmoid"):
            found[layer.name] = closed_by
    return found


def _activation(layer: KerasLayer) -> str:
    """Return the name of a layer's activation; nothing if it has none."""
    own = getattr(getattr(layer, "activation", None), "__name__", "")
    return "softmax" if type(layer).__name__ == "Softmax" else str(own)


def _computing(layer: KerasLayer) -> KerasLayer:
    """Return the layer that computes: the one inside a wrapper of tfmot's."""
    return layer.layer if type(layer).__module__.startswith("tensorflow_model_optimization.") else layer
