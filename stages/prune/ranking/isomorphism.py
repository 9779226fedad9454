"""Sort channel groups into classes of equal structure: channels of different structures are not alike in their scores.

Two groups are isomorphic if the layers that make, scale and read their channels are the same up to the number of
channels: as many layers of each kind, with the same kernel sizes, in the same roles (Fang et al., "Isomorphic Pruning
for Vision Models", 2024, arXiv:2407.04616, section 3). Names, places in the network, and biases do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stages.keras.channels.groups import ChannelGraph, ChannelGroup, Slot
from stages.keras.types import KerasModel

# One weight around a group: the kind of its layer, its name and axis, the group's role there, how many indices of the
# axis hold one channel, and the lengths of the axes that hold no channels.
Part = tuple[str, str, int, str, int, tuple[int, ...]]


def isomorphism_classes(model: KerasModel, graph: ChannelGraph) -> list[int]:
    """Return for each prunable group the number of its class; classes count from 0 in the order of their first group.

    `model` is the flattened model of `graph`.
    """
    kernels = _kernel_sizes(model, graph.slots)
    numbers: dict[tuple[Part, ...], int] = {}
    return [numbers.setdefault(_structure(model, group, kernels), len(numbers)) for group in graph.prunable]


def _structure(
    model: KerasModel, group: ChannelGroup, kernels: Mapping[tuple[str, str], tuple[int, ...]]
) -> tuple[Part, ...]:
    """Return the parts around a group in an order of their own, so that equal structures are equal tuples."""
    slots = (*group.producers, *group.pass_through, *group.consumers)
    return tuple(
        sorted(
            (
                type(model.get_layer(slot.layer)).__name__,
                slot.weight,
                slot.axis,
                str(slot.role),
                _indices_per_channel(group, slot),
                kernels[slot.layer, slot.weight],
            )
            for slot in slots
            # A convolution with a bias is the same piece of a network as one without.
            if slot.weight.rpartition(".")[2] != "bias"
        )
    )


def _indices_per_channel(group: ChannelGroup, slot: Slot) -> int:
    """Return how often the axis holds a channel: 1, but more for grouped convolutions, gates, and after Flatten."""
    often = np.bincount(slot.channels, minlength=int(group.channels.max()) + 1)
    return int(often[group.channels].max())


def _kernel_sizes(model: KerasModel, slots: Sequence[Slot]) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return for each weight, by layer and name, the lengths of its axes that hold no channels."""
    held: dict[tuple[str, str], set[int]] = {}
    for slot in slots:
        held.setdefault((slot.layer, slot.weight), set()).add(slot.axis)
    sizes = {}
    for slot in slots:
        shape = slot.variable(model.get_layer(slot.layer)).shape
        axes = held[slot.layer, slot.weight]
        sizes[slot.layer, slot.weight] = tuple(int(size) for axis, size in enumerate(shape) if axis not in axes)
    return sizes
