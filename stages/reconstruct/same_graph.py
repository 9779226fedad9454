"""Check that a pruned network is the source with fewer channels, and put the source's statistics back into it."""

from __future__ import annotations

from math import prod

import numpy as np

from pipeline.errors import PreconditionError
from stages.keras.layer_kinds import kind_of
from stages.keras.layer_work import of_keras
from stages.keras.regression.linear_layers import is_linear
from stages.keras.regression.running import Network
from stages.keras.regression.targets import Kept
from stages.keras.types import KerasLayer

Readers = dict[str, tuple[str, tuple[str, ...]]]  # by call: the layer's class, and the calls that it reads


def require_same_graph(pruned: Network, source: Network, kept: Kept) -> None:
    """Raise PreconditionError unless both networks call the same layers on each other, with the channels of `kept`."""
    ours, theirs = _readers(pruned), _readers(source)
    layers = {name: call.layer for each in (pruned, source) for name, call in zip(each.names, each.calls, strict=True)}
    for name in sorted(layers, key=lambda name: name in ours and name in theirs):  # what is missing says most
        difference = _difference(name, ours, theirs)
        if difference is not None:
            raise PreconditionError(
                difference,
                where=layers[name],
                hint="reconstruct directly after prune: strip and others change the layers",
            )
    for layer in pruned.model.layers:
        left = kept.get(layer.name)
        count, before = _channels(layer), _channels(source.model.get_layer(layer.name))
        stay = before if left is None else left.size
        if count != stay or (left is not None and left.max(initial=0) >= before):
            raise PreconditionError(
                f"has {count} channels, and the prune report leaves {stay} of {before}",
                where=layer.name,
                hint="the model is not the one that the report is about: reconstruct directly after prune",
            )


def put_back_normalizations(pruned: Network, source: Network, kept: Kept) -> None:
    """Give batch normalizations the source's values again: the layers before them are fitted to what these expect."""
    for layer in pruned.model.layers:
        if kind_of(layer).folds and of_keras(layer):
            left = kept.get(layer.name)
            values = source.model.get_layer(layer.name).get_weights()
            layer.set_weights([value if left is None else np.take(value, left) for value in values])


def not_fitted(pruned: Network, source: Network) -> dict[str, str]:
    """Return the layers that read fewer channels than in the source and that no fit covers, with their kinds."""
    ours, theirs = _shapes_read(pruned), _shapes_read(source)
    return {
        layer.name: type(layer).__name__
        for layer in pruned.model.layers
        if not is_linear(layer)
        and not _by_channel(layer)
        and [w.shape for w in layer.weights] != [w.shape for w in source.model.get_layer(layer.name).weights]
        # A layer inside of a wrapper that only makes fewer has lost nothing; recurrent ones read what they make.
        and not (is_linear(getattr(layer, "layer", None)) and ours[layer.name] == theirs[layer.name])
    }


def _shapes_read(network: Network) -> dict[str, list[tuple[int | None, ...]]]:
    """Return for each layer the shapes of all tensors that its calls read."""
    found: dict[str, list[tuple[int | None, ...]]] = {}
    for node, call in zip(network.nodes, network.calls, strict=True):
        found.setdefault(call.layer, []).extend(tuple(tensor.shape) for tensor in node.keras_inputs)
    return found


def _difference(name: str, ours: Readers, theirs: Readers) -> str | None:
    if name not in theirs or name not in ours:
        return f"is not in {'the source' if name in ours else 'the pruned model'}"
    (kind, reads), (other_kind, other_reads) = ours[name], theirs[name]
    if kind != other_kind:
        return f"is of class {kind} in the pruned model and {other_kind} in the source"
    return None if reads == other_reads else "reads other layers in the source than in the pruned model"


def _by_channel(layer: KerasLayer) -> bool:
    """Return whether a layer has nothing to make up for: each channel stands alone, or rows are looked up."""
    kind = kind_of(layer)
    return kind.folds or kind.by_channel or any(kernel.inputs is None for kernel in kind.kernels)


def _channels(layer: KerasLayer) -> int:
    """Return how many channels a layer with a kernel makes, or normalizes; 0 of others."""
    kind = kind_of(layer)
    if not of_keras(layer) or not (kind.folds or kind.kernels):
        return 0
    if kind.folds:
        return int(layer.moving_mean.shape[0])
    kernel = kind.kernels[-1]
    return prod(int(getattr(layer, kernel.weight).shape[axis]) for axis in kernel.outputs)


def _readers(network: Network) -> Readers:
    """Return for each call the layer's class, and the calls that it reads; inputs by their places."""
    names = network.names
    maker = {key: f"input {place}" for place, key in enumerate(network.given)}
    for name, call in zip(names, network.calls, strict=True):
        maker |= {key: f"{name}:{place}" for place, key in enumerate(call.makes)}
    return {
        name: (type(node.layer).__name__, tuple(maker[key] for key in call.reads))
        for name, node, call in zip(names, network.nodes, network.calls, strict=True)
    }
