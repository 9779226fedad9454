"""Find which channels of a network's tensors may have a positive factor of their own, and what makes and reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.equalizing.draft import has_channels
from stages.keras.equalizing.passing import HOMOGENEOUS, SUMS, activation_of, is_homogeneous, passed
from stages.keras.layer_kinds import kind_of
from stages.keras.layer_work import of_keras
from stages.keras.regression.running import Network
from stages.keras.types import KerasLayer

Ids = NDArray[np.int64]
FIXED = 0  # the variable of channels that must stay as they are


@dataclass(slots=True)
class Variables:
    """Hold variables, of which some are found to be equal."""

    _parents: list[int] = field(default_factory=lambda: [FIXED])

    def new(self, count: int) -> Ids:
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def join(self, some: Ids, others: Ids) -> None:
        for one, other in zip(some.tolist(), others.tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._parents[high] = low

    def fix(self, ids: Ids) -> None:
        self.join(ids, np.zeros_like(ids))

    def roots(self, ids: Ids) -> Ids:
        return np.array([self._root(one) for one in ids.tolist()], np.int64)

    def _root(self, one: int) -> int:
        while self._parents[one] != one:
            self._parents[one] = self._parents[self._parents[one]]
            one = self._parents[one]
        return one


@dataclass(frozen=True, slots=True)
class Channels:
    """Hold for each tensor of a network, by key, the variable of each channel; FIXED ones can't be scaled.

    `makes` are the output channels of layers that can be scaled, `reads` the input channels, by the layer's name.
    """

    tensors: Mapping[str, Ids]
    makes: Mapping[str, Ids]
    reads: Mapping[str, Ids]

    @classmethod
    def of(cls, network: Network, kept: frozenset[str]) -> Channels:
        """Return the channels of a network; layers named in `kept` stay as they are."""
        return _Search(network, kept, _calls(network)).found()


def _calls(network: Network) -> Counter[str]:
    return Counter(call.layer for call in network.calls)


def starts_anew(node: Any) -> bool:
    """Return whether the layer called takes factors of what it reads and makes: it has a kernel, or normalizes."""
    return is_normalization(node) or has_channels(node.layer)


def is_normalization(node: Any) -> bool:
    """Return whether a call normalizes each channel, on the last axis, by stored statistics."""
    layer = node.layer
    if not (kind_of(layer).folds and of_keras(layer) and layer.compute_dtype == "float32"):
        return False
    # Layers that renormalize hold more, and keep it.
    plain = not getattr(layer, "virtual_batch_size", None) and len(layer.weights) == 2 + layer.scale + layer.center
    return plain and list(layer.axis) == [len(node.keras_inputs[0].shape) - 1]


@dataclass(slots=True)
class _Search:
    network: Network
    kept: frozenset[str]
    calls: Counter[str]
    variables: Variables = field(default_factory=Variables)
    tensors: dict[str, Ids] = field(default_factory=dict)
    makes: dict[str, Ids] = field(default_factory=dict)
    reads: dict[str, Ids] = field(default_factory=dict)

    def found(self) -> Channels:
        network = self.network
        for tensor, key in zip(network.model.inputs, network.given, strict=True):
            self.tensors[key] = self._fixed(tensor)
        for call, node in zip(network.calls, network.nodes, strict=True):
            self._call(node, [self.tensors[key] for key in call.reads], call.makes)
        for tensor in network.model.outputs:
            self.variables.fix(self.tensors[str(id(tensor))])
        roots = self.variables.roots
        tensors = {key: roots(ids) for key, ids in self.tensors.items()}
        makes, reads = ({name: roots(ids) for name, ids in each.items()} for each in (self.makes, self.reads))
        return Channels(tensors, makes, reads)

    def _call(self, node: Any, given: Sequence[Ids], made: Sequence[str]) -> None:
        layer = node.layer
        plain = len(made) == 1 and layer.name not in self.kept and node.call_kwargs.get("training") in (None, False, 0)
        ids = self._made(node, given) if plain else None
        if ids is not None and len(ids) == (node.outputs.shape[-1] or 0):
            self.tensors[made[0]] = ids
            return
        for each in given:
            self.variables.fix(each)
        outputs = node.outputs if isinstance(node.outputs, list | tuple) else [node.outputs]
        for key, tensor in zip(made, outputs, strict=False):
            self.tensors[key] = self._fixed(tensor)
        for key in made[len(outputs) :]:
            self.tensors[key] = np.zeros(0, np.int64)

    def _made(self, node: Any, given: Sequence[Ids]) -> Ids | None:
        """Return the channels of a call's output; None if it fixes all that it touches."""
        layer, kind = node.layer, type(node.layer).__name__
        if starts_anew(node):
            return self._anew(layer, given[0], int(node.outputs.shape[-1]))
        if not of_keras(layer) or not len(given):
            return None
        if len(given) == 1:
            return passed(node, given[0]) if is_homogeneous(layer) else None
        if kind in SUMS and len({tuple(tensor.shape) for tensor in node.keras_inputs}) == 1:
            for other in given[1:]:
                self.variables.join(given[0], other)
            return given[0]
        if kind == "Concatenate" and layer.axis in (-1, len(node.outputs.shape) - 1):
            return np.concatenate(given)
        if kind == "Multiply" and len(given) == 2 and len(given[0]) == len(given[1]):
            # A gate: x · g(x). One of the two may be scaled.
            rooted = [self.variables.roots(ids) for ids in given]
            for own, gate in ((rooted[0], rooted[1]), (rooted[1], rooted[0])):
                if not gate.any() and own.any():
                    return own
        return None

    def _anew(self, layer: KerasLayer, read: Ids, count: int) -> Ids:
        if layer.name not in self.reads:
            self.reads[layer.name], self.makes[layer.name] = read, self.variables.new(count)
            if not kind_of(layer).folds and activation_of(layer) not in HOMOGENEOUS:
                self.variables.fix(self.makes[layer.name])
        else:
            self.variables.join(self.reads[layer.name], read)
        return self.makes[layer.name]

    def _fixed(self, tensor: Any) -> Ids:
        shape: Any = getattr(tensor, "shape", ())
        return np.zeros(int(shape[-1] or 0) if len(shape or ()) else 0, np.int64)
