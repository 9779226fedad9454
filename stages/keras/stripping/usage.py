"""Find how the layers of a model are called, including those of nested models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.keras.graph import is_nested
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasLayer, KerasModel

ADDED = frozenset({"AddLoss", "AddMetric"})  # what `model.add_loss` and `add_metric` put into the graph


@dataclass(frozen=True)
class Usage:
    """Hold layers by `id`: how often each is called, and which are called with `training=True`.

    `levels` are the model and the models nested in it, each once. Layers called with `training=True` compute in
    inference as in training: they are left unchanged, and such a nested model is not looked into.
    """

    calls: Counter[int]
    in_training: frozenset[int]
    levels: tuple[Any, ...]

    def opens(self, layer: KerasLayer) -> bool:
        """Return whether `layer` is a nested model that is looked into."""
        return _lists_its_layers(layer) and id(layer) not in self.in_training


def usage_of(model: KerasModel) -> Usage:
    """Return the usage of all layers of a functional or built sequential model."""
    calls: Counter[int] = Counter()
    in_training: set[int] = set()
    levels = [model]
    for level in levels:  # it grows meanwhile
        for node in nodes_of(level):
            calls[id(node.layer)] += 1
            if node.call_kwargs.get("training") not in (None, False, 0):
                in_training.add(id(node.layer))
        nested = (layer for layer in level.layers if _lists_its_layers(layer) and id(layer) not in in_training)
        levels += [layer for layer in nested if not any(layer is known for known in levels)]
    return Usage(calls, frozenset(in_training), tuple(levels))


def nodes_of(model: KerasModel) -> Iterator[Any]:
    """Yield the calls of layers that make up the model's own graph, from its inputs to its outputs."""
    by_depth = model._nodes_by_depth  # noqa: SLF001 - a layer's inbound nodes would tell of other models' calls too
    for depth in sorted(by_depth, reverse=True):
        yield from (node for node in by_depth[depth] if not node.is_input)


def only_for_losses(model: KerasModel) -> list[Any]:
    """Return the layers of added losses and metrics, and those that only they read; none of the nested models'.

    A layer that is called both for the outputs and for a loss can't be separated by layers: then it is not included.
    """
    if not any(type(layer).__name__ in ADDED for layer in model.layers):
        return []
    read, living, dead = {id(tensor) for tensor in model.outputs}, set[int](), set[int]()
    # From the outputs back: all calls that read a tensor come before the one that made it.
    for node in reversed(list(nodes_of(model))):
        if any(id(tensor) in read for tensor in import_tensorflow().nest.flatten(node.outputs)):
            read |= {id(tensor) for tensor in node.keras_inputs}
            living.add(id(node.layer))
        else:
            dead.add(id(node.layer))
    return [] if living & dead else [layer for layer in model.layers if id(layer) in dead]


def _lists_its_layers(layer: KerasLayer) -> bool:
    """Return whether `layer` is a nested model whose configuration is Keras' own, not that of a user's class."""
    return is_nested(layer) and is_of_keras(layer)


def is_of_keras(layer: KerasLayer) -> bool:
    """Return whether the class of `layer` is one of Keras'."""
    return bool(type(layer).__module__.startswith("tf_keras."))
