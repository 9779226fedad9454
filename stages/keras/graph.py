"""Walk Keras' own graph: the calls of layers in execution order, and their arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ModelError
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasLayer, KerasModel


def check_has_graph(model: KerasModel) -> None:
    """Raise ModelError unless `model` is functional or a built sequential model."""
    if not getattr(model, "_is_graph_network", False):
        raise ModelError(
            "the model has no layer graph",
            where=str(getattr(model, "name", type(model).__name__)),
            hint="subclassed models can't be pruned: build the network with keras.Model(inputs, outputs) or "
            "keras.Sequential, with an input shape",
        )


def nodes_in_order(model: KerasModel) -> Iterator[Any]:
    """Yield each call of a layer in the model, after the calls that it depends on."""
    by_depth = model._nodes_by_depth  # noqa: SLF001 - the order in which Keras itself runs the graph
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


@dataclass(frozen=True, slots=True)
class SingleSource:
    """Wrap a tensor for `Node.map_arguments`, which takes it by calling `pop`."""

    tensor: Any

    def pop(self) -> Any:
        return self.tensor


def user_classes(model: KerasModel) -> dict[str, type]:
    """Return the classes of all layers by name: the user's own may be registered nowhere."""
    return {type(layer).__name__: type(layer) for layer in model._flatten_layers()}  # noqa: SLF001 - nested ones too


def is_nested(layer: KerasLayer) -> bool:
    """Return whether `layer` is a functional or sequential model with Keras' own call."""
    if not isinstance(layer, import_keras().Model) or not getattr(layer, "_is_graph_network", False):
        return False
    # A subclass with a `call` of its own computes something else than its graph says.
    return bool(type(layer).call.__module__.partition(".")[0] == "tf_keras")


def in_input_order(model: KerasModel, given: Any) -> list[Any]:
    """Return the tensors that a nested model was called on, in the order of its inputs."""
    if isinstance(given, dict) and not isinstance(model._nested_inputs, dict):  # noqa: SLF001 - as Keras looks it up
        return [given[name] for name in model.input_names]
    return list(import_tensorflow().nest.flatten(given))
