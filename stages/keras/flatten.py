"""Flatten nested models into one graph of layers, in which channels can be followed from end to end.

Layer identity is preserved: a model that is called twice becomes layers that are called twice. Layers keep their names
if these are unique in the whole network; else the nested model's name is prepended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stages.keras.free_sizes import like
from stages.keras.graph import SingleSource, check_has_graph, in_input_order, is_nested, nodes_in_order, user_classes
from stages.keras.normal_form import put_weights, rebuilt
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasLayer, KerasModel


def flattened(model: KerasModel) -> Any:
    """Return `model` if no model is nested in it, else a copy without nesting: same outputs, weights, trainability.

    It is sequential if all were. Raises ModelError for models without a graph.
    """
    check_has_graph(model)
    if not any(is_nested(layer) for layer in model.layers):
        return model
    copies = _Copies()
    copies.name_all(model)
    with import_keras().utils.custom_object_scope(user_classes(model)):
        flat = _as_chain(model, copies) if _is_chain(model) else _as_graph(model, copies)
    # Only now, because layers get their weights when they are called.
    for original, copy in copies.made.values():
        put_weights(copy, original.get_weights())
    return like(_with_output_names(flat, model.output_names), model)


def layers_by_flat_name(model: KerasModel) -> dict[str, KerasLayer]:
    """Return the model's own layers, nested ones too, by the names that they have in `flattened(model)`."""
    copies = _Copies()
    copies.name_all(model)
    return {copies.names[id(layer)]: layer for layer, _ in _leaves(model, "")}


def _with_output_names(flat: Any, names: list[str]) -> Any:
    """Add identities for output names: labels use them with several outputs, and a nested model may have named one."""
    if len(names) == 1 or flat.output_names == names:
        return flat
    keras, taken = import_keras(), {layer.name for layer in flat.layers}
    pairs = zip(flat.outputs, flat.output_names, names, strict=True)
    outputs = [
        tensor if now == name or name in taken else keras.layers.Activation("linear", name=name)(tensor)
        for tensor, now, name in pairs
    ]
    return keras.Model(flat.inputs, outputs, name=flat.name)


@dataclass(slots=True)
class _Copies:
    """Make new layers in place of the original ones, each once."""

    names: dict[int, str] = field(default_factory=dict)
    made: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def name_all(self, model: KerasModel) -> None:
        """Give every layer a unique name."""
        leaves = {id(layer): (layer, prefix) for layer, prefix in _leaves(model, "")}
        counts = Counter(layer.name for layer, _ in leaves.values())
        taken = {name for name, count in counts.items() if count == 1}
        for key, (layer, prefix) in leaves.items():
            unique = counts[layer.name] == 1
            wanted = layer.name if unique or not prefix else f"{prefix}_{layer.name}"
            self.names[key] = wanted if unique else _free(wanted, taken)
            taken.add(self.names[key])

    def of(self, layer: KerasLayer, trainable: bool) -> Any:
        """Return the new layer for `layer`; in a model that is not trainable none of them is."""
        if id(layer) not in self.made:
            copy = rebuilt(type(layer), {**layer.get_config(), "name": self.names[id(layer)]})
            # A frozen model freezes what is in it without changing the layers' own flags, and that model is gone from
            # the copy.
            copy.trainable = copy.trainable and trainable
            self.made[id(layer)] = (layer, copy)
        return self.made[id(layer)][1]


def _free(name: str, taken: set[str]) -> str:
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _leaves(model: KerasModel, prefix: str) -> Iterator[tuple[Any, str]]:
    """Yield every layer that is not a nested model, with the name of the nested model it is in."""
    for layer in model.layers:
        if is_nested(layer):
            yield from _leaves(layer, layer.name)
        # A nested model's own inputs are replaced by the tensors that it is called on.
        elif not (prefix and type(layer).__name__ == "InputLayer"):
            yield layer, prefix


def _is_chain(model: KerasModel) -> bool:
    sequential = isinstance(model, import_keras().Sequential)
    return sequential and all(_is_chain(layer) for layer in model.layers if is_nested(layer))


def _as_chain(model: KerasModel, copies: _Copies) -> Any:
    keras = import_keras()
    source = keras.Input(batch_shape=model.input_shape, dtype=model.inputs[0].dtype, name=model.input_names[0])
    layers = [copies.of(layer, trainable) for layer, trainable in _chain(model, trainable=True)]
    return keras.Sequential([source, *layers], name=model.name)


def _chain(model: KerasModel, trainable: bool) -> Iterator[tuple[Any, bool]]:
    for layer in model.layers:
        if is_nested(layer):
            yield from _chain(layer, trainable and layer.trainable)
        else:
            yield layer, trainable


def _as_graph(model: KerasModel, copies: _Copies) -> Any:
    keras, nest = import_keras(), import_tensorflow().nest
    nested_inputs, nested_outputs = model._nested_inputs, model._nested_outputs  # noqa: SLF001 - their user's structure
    names = iter(model.input_names)
    ends = [
        keras.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype, name=next(names)) for tensor in model.inputs
    ]
    outputs = _inlined(model, ends, copies, {}, trainable=True)
    inputs = nest.pack_sequence_as(nested_inputs, ends)
    return keras.Model(inputs, nest.pack_sequence_as(nested_outputs, outputs), name=model.name)


def _inlined(
    model: KerasModel, inputs: list[Any], copies: _Copies, settings: dict[str, Any], trainable: bool
) -> list[Any]:
    """Return the model's outputs on `inputs`, by copies of its layers.

    `settings` is the `training` argument that the model was called with: its inner layers were called with it too.
    """
    flatten = import_tensorflow().nest.flatten
    now = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    for node in nodes_in_order(model):
        if node.is_input:
            continue
        sources = {str(id(tensor)): SingleSource(now[id(tensor)]) for tensor in node.keras_inputs}
        args, kwargs = node.map_arguments(sources)
        inner = settings if kwargs.get("training") is None else {"training": kwargs["training"]}
        if is_nested(node.layer):
            tensors = in_input_order(node.layer, args[0] if args else kwargs["inputs"])
            outputs = _inlined(node.layer, tensors, copies, inner, trainable and node.layer.trainable)
        else:
            takes_it = node.layer._expects_training_arg  # noqa: SLF001 - Keras' own way to know
            outputs = flatten(copies.of(node.layer, trainable)(*args, **(kwargs | inner if takes_it else kwargs)))
        now |= {id(old): new for old, new in zip(flatten(node.outputs), outputs, strict=True)}
    return [now[id(tensor)] for tensor in model.outputs]
