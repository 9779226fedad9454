"""Perform surgery through kerassurgeon's Surgeon. This is the only module that imports kerassurgeon.

The channel graph gives for every layer its successor: its configuration with fewer channels, its weights sliced along
each axis that holds channels. The Surgeon gets the successors as `replace_layer` jobs; its own masks, which are wrong
or missing for many layers, are never used. A subclass fixes its limitations: it walks the graph in the order in which
Keras runs it instead of by recursion, gives each layer the call arguments that the original got, and builds on fresh
inputs, so that the given model is unchanged.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from pipeline.errors import ModelError, PostconditionError, PreconditionError
from pipeline.reports.command_lines import SURGEON, install
from pipeline.system.memory import collection_paused
from stages.keras.channels.groups import ChannelGraph, Slot
from stages.keras.channels.labels import Ids, Keep
from stages.keras.channels.shared import OncePerArray
from stages.keras.free_sizes import like
from stages.keras.graph import SingleSource, nodes_in_order
from stages.keras.normal_form import put_weights, rebuilt, unbuilt
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasLayer, KerasModel
from stages.prune.surgery.configuration_changes import Change, argument_changes, configuration_changes, with_changes
from stages.prune.surgery.rebuild import spare_tracing, trace_again
from stages.prune.surgery.slicing import Slices


def _import_surgeon() -> Any:
    """Import kerassurgeon's Surgeon, without its import's effect on the root logger (`logging.basicConfig(INFO)`)."""
    import_keras()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        from kerassurgeon import Surgeon
    except ImportError as error:
        raise PreconditionError(
            f"pruning needs kerassurgeon, which can't be imported: {error}", hint=install(*SURGEON)
        ) from error
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return Surgeon


class GraphSurgeon(_import_surgeon()):  # type: ignore[misc]  # kerassurgeon has no types
    """Extend kerassurgeon's Surgeon to graphs of any depth and layers with any call arguments.

    `argument_changes` says by the layer's name what changes in the arguments of its calls.
    """

    argument_changes: Mapping[str, list[Change]] = MappingProxyType({})

    # kerassurgeon 0.2.0's own rebuilds the graph by recursion, drops call arguments, and takes the length of symbolic
    # tensors, which tf_keras refuses.
    def operate(self) -> Any:
        """Return a new functional model with every `replace_layer` job done; each layer needs one."""
        model, nest = self.model, import_tensorflow().nest
        for node in nodes_in_order(model):
            if node.is_input:
                self._renew_input(node)
            else:
                inputs = {str(id(tensor)): SingleSource(self._renewed(tensor)) for tensor in node.keras_inputs}
                self._mod_func_map[node](node, node.map_arguments(inputs), None, **self._kwargs_map[node])
        ends = (model._nested_inputs, model._nested_outputs)  # noqa: SLF001 - the structure in which the user named them
        inputs, outputs = nest.map_structure(self._renewed, ends)
        return import_keras().Model(inputs, outputs, name=model.name)

    def add_successor(self, layer: KerasLayer, new_layer: Any, nodes: Sequence[Any]) -> None:
        """Add a `replace_layer` job for all calls of a layer: `add_job` searches the whole model for each layer."""
        for node in nodes:
            self.nodes.append(node)
            self._mod_func_map[node], self._kwargs_map[node] = self._replace_layer, {"new_layer": new_layer}

    def _renew_input(self, node: Any) -> None:
        layer = type(node.layer).from_config(node.layer.get_config())
        self._replace_tensors[node.outputs] = (layer.output, None)

    def _replace_layer(self, node: Any, inputs: Any, input_masks: Any, new_layer: Any = None) -> None:
        """Call the successor as the original was called. `inputs` are its arguments; masks are never used."""
        del input_masks
        args, kwargs = with_changes(inputs, self.argument_changes.get(node.layer.name, ()))
        flatten = import_tensorflow().nest.flatten
        for old, new in zip(flatten(node.outputs), flatten(new_layer(*args, **kwargs)), strict=True):
            self._replace_tensors[old] = (new, None)

    def _renewed(self, tensor: Any) -> Any:
        return self._replace_tensors[tensor][0]


def remove_channels(model: KerasModel, graph: ChannelGraph, keep: Keep) -> Any:
    """Return a new model with only the channels of `graph` that `keep` marks: same class, names and settings.

    `model` is unchanged. Raises PostconditionError if a layer's weights don't fit its successor.
    """
    with collection_paused():
        return _without_channels(model, graph, keep)


def _without_channels(model: KerasModel, graph: ChannelGraph, keep: Keep) -> Any:
    by_layer, nodes = _slots_by_layer(graph), _nodes_by_layer(model)
    surgeon, pairs, spared = GraphSurgeon(model), [], []
    surgeon.argument_changes = {name: argument_changes(graph, name, keep) for name in {*graph.sizes, *graph.constants}}
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    # All at once: interleaved with making layers, which empties the caches, slicing takes half as long again.
    left, slices = OncePerArray(lambda channels: _left(keep[channels])), Slices()
    sliced = [_sliced_weights(layer, by_layer[layer.name], left, slices) for layer in layers]
    slices.write()
    for layer, weights in zip(layers, sliced, strict=True):
        successor = _successor(layer, graph, keep)
        pairs.append((successor, weights))
        if spare_tracing(successor, weights):
            spared.append(successor)
        surgeon.add_successor(layer, successor, nodes[layer.name])
    pruned = surgeon.operate()
    for successor in spared:
        trace_again(successor)
    if isinstance(model, import_keras().Sequential):
        pruned = _as_sequential(pruned, model)
        spared, pairs = [], [(layer, weights) for layer, (_, weights) in zip(pruned.layers, pairs, strict=True)]
    filled = {id(layer) for layer in spared}
    for successor, weights in pairs:
        if id(successor) not in filled:
            _fill(successor, weights)
    return like(pruned, model)


def _left(marks: Keep) -> Ids | None:
    """Return the indices that are marked; None if all are."""
    return None if marks.all() else np.flatnonzero(marks)


def _sliced_weights(layer: KerasLayer, slots: list[Slot], left: OncePerArray[Ids | None], slices: Slices) -> list[Any]:
    """Return a layer's weights as tensors, ordered like `get_weights`, with only the indices `left` of their channels.

    A slice has no values before `slices` are written. A weight that is kept entirely is the layer's own buffer:
    TensorFlow copies one that has two owners when either is written to.
    """
    variables = layer.weights
    position = {id(variable): index for index, variable in enumerate(variables)}
    kept: defaultdict[int, dict[int, Ids]] = defaultdict(dict)
    for slot in slots:
        indices = left(slot.channels)
        if indices is not None:
            kept[position[id(slot.variable(layer))]][slot.axis] = indices
    weights = [variable.value() for variable in variables]
    for index, axes in kept.items():
        weights[index] = slices.promise(weights[index], axes)
    return weights


def _nodes_by_layer(model: KerasModel) -> defaultdict[str, list[Any]]:
    nodes: defaultdict[str, list[Any]] = defaultdict(list)
    for node in nodes_in_order(model):
        nodes[node.layer.name].append(node)
    return nodes


def _slots_by_layer(graph: ChannelGraph) -> defaultdict[str, list[Slot]]:
    slots: defaultdict[str, list[Slot]] = defaultdict(list)
    for slot in graph.slots:
        slots[slot.layer].append(slot)
    return slots


def _successor(layer: KerasLayer, graph: ChannelGraph, keep: Keep) -> Any:
    """Return an unbuilt layer of the same kind and configuration except for the channels it counts."""
    try:
        config = with_changes(layer.get_config(), configuration_changes(graph, layer.name, keep))
        return rebuilt(type(layer), unbuilt(config))
    except Exception as error:  # a custom layer's own code may raise anything
        raise ModelError(
            f"a layer can't be rebuilt from its configuration: {error}",
            where=layer.name,
            hint=f"{type(layer).__name__}.get_config() and from_config() have to fit each other",
        ) from error


def _as_sequential(pruned: Any, model: KerasModel) -> Any:
    """Return the same network as a model of the original's sequential class."""
    layers = [rebuilt(type(layer), layer.get_config()) for layer in pruned.layers]
    return import_keras().Sequential(layers, name=model.name)


def _fill(successor: Any, weights: list[Any]) -> None:
    try:
        put_weights(successor, [weight.numpy() for weight in weights])
    except ValueError as error:
        raise PostconditionError(
            f"the rule for {type(successor).__name__} slices weights in another way than it shrinks the layer: {error}",
            where=successor.name,
            hint="correct the layer's rule, or exclude the layer",
        ) from error
