"""Follow factors and offsets of a tensor's channels forward to the kernels that read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.keras.equalizing.channels import is_normalization, starts_anew
from stages.keras.equalizing.draft import Array
from stages.keras.equalizing.passing import ORDERED, SUMS, is_homogeneous, is_linear, passed
from stages.keras.layer_work import of_keras
from stages.keras.regression.running import Network
from stages.keras.types import KerasLayer

WITHOUT_BORDERS = frozenset(
    {"Dense", *(f"{kind}{d}" for kind in ("Conv", "DepthwiseConv", "SeparableConv") for d in ("1D", "2D", "3D"))}
)


@dataclass(frozen=True, slots=True)
class Change:
    """Tell what a layer reads instead of x: by channel, x = factor · new + offset."""

    layer: str
    factor: Array
    offset: Array


@dataclass(frozen=True, slots=True)
class Followed:
    """Hold what layers with kernels then read, and by how much tensors on the way there are moved, by key."""

    changes: Sequence[Change]
    moved: dict[str, Array]


def followed(network: Network, key: str, factor: Array, offset: Array, kept: frozenset[str]) -> Followed | None:
    """Return what reads a tensor of which each channel becomes x = factor · new + offset; None if that can't be.

    Factors are 1, -1 or 0. An offset can't pass what is not linear, nor be read by a kernel that also reads padding.
    """
    calls = Counter(call.layer for call in network.calls)
    states = {key: (factor, offset)}
    changes = []
    for call, node in zip(network.calls, network.nodes, strict=True):
        if not states.keys() & set(call.reads):
            continue
        layer = node.layer
        if layer.name in kept or len(call.makes) != 1 or node.call_kwargs.get("training") not in (None, False, 0):
            return None
        if starts_anew(node):
            change = Change(layer.name, *states[call.reads[0]])
            if calls[layer.name] > 1 or (change.offset.any() and not (is_normalization(node) or _borderless(layer))):
                return None
            changes.append(change)
            continue
        made = _through(node, [states.get(read) for read in call.reads])
        if made is None:
            return None
        states[call.makes[0]] = made
    if any(str(id(tensor)) in states for tensor in network.model.outputs):
        return None
    return Followed(changes, {key: moved for key, (_, moved) in states.items()})


def _borderless(layer: KerasLayer) -> bool:
    """Return whether a layer reads nothing but its input: no padding."""
    if type(layer).__name__ not in WITHOUT_BORDERS:
        return False
    return getattr(layer, "padding", "valid") == "valid" or all(size == 1 for size in layer.kernel_size)


def _through(node: Any, states: Sequence[tuple[Array, Array] | None]) -> tuple[Array, Array] | None:
    """Return factor and offset behind a call that hands channels on; None if it does not keep them."""
    layer, kind = node.layer, type(node.layer).__name__
    if not of_keras(layer):
        return None
    given = [
        (np.ones(tensor.shape[-1]), np.zeros(tensor.shape[-1])) if state is None else state
        for tensor, state in zip(node.keras_inputs, states, strict=True)
    ]
    factors, offsets = zip(*given, strict=True)
    if len(given) == 1:
        negative = bool((factors[0] < 0).any())
        if is_linear(layer):
            possible = not (negative and kind in ORDERED)
        else:
            possible = is_homogeneous(layer) and not negative and not offsets[0].any()
        factor, offset = (passed(node, values) for values in given[0]) if possible else (None, None)
        return None if factor is None or offset is None else (factor, offset)
    if kind == "Concatenate" and layer.axis in (-1, len(node.outputs.shape) - 1):
        return np.concatenate(factors), np.concatenate(offsets)
    alike = kind in SUMS and len({tuple(tensor.shape) for tensor in node.keras_inputs}) == 1
    if alike and all((factor == 1).all() for factor in factors):
        return factors[0], np.sum(offsets, axis=0) / (len(offsets) if kind == "Average" else 1)
    return None
