"""Compute what a network costs by how many channels each group keeps, without building it.

Every weight costs a constant times the product of the lengths of its axes; an axis that holds channels gets shorter
with them. What a layer multiplies without a weight (attention's queries with keys) has a fixed cost: no rule removes
channels there. So MACs, parameters and bytes of any allocation follow from a few arrays, in well under a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.keras.channels.groups import ChannelGraph, ChannelGroup, Slot
from stages.keras.channels.labels import Ids
from stages.keras.layer_work import Work
from stages.keras.macs import work_of
from stages.keras.types import KerasModel

Counted = Literal["macs", "params", "bytes", "channels"]
Measure = Literal["macs", "params", "bytes", "channels", "latency", "instructions"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cost:
    """Hold one measure of one network whose channels go in a given order.

    A term is a weight: `scale` times the lengths of the axes in its row of `axes` (axis 0 has length 1). The length of
    an axis is the sum over its groups of `kept[start + n]`, where n is how many channels the group keeps.
    """

    scale: Floats
    axes: NDArray[np.int64]  # (terms, most axes)
    axis_of: NDArray[np.int64]  # for each pair of an axis and a group in it
    group_of: NDArray[np.int64]
    start: NDArray[np.int64]
    kept: Floats
    fixed: Floats  # for each axis, how much of its length belongs to no group
    layers: tuple[str, ...]  # for each term

    def __call__(self, counts: Sequence[float] | Floats) -> float:
        """Return the cost if group g keeps its first `counts[g]` channels; between whole numbers, linear."""
        return float(self._terms(self._lengths(np.asarray(counts, np.float64))).sum())

    def by_layer(self, counts: Sequence[float] | Floats) -> Mapping[str, float]:
        """Return the cost of each layer."""
        costs: dict[str, float] = {}
        for name, value in zip(self.layers, self._terms(self._lengths(np.asarray(counts))).tolist(), strict=True):
            costs[name] = costs.get(name, 0.0) + value
        return costs

    def slopes(self, counts: Floats) -> Floats:
        """Return what one more unit of length of each axis costs."""
        lengths = self._lengths(counts)
        slopes = np.zeros(lengths.size)
        for column in range(self.axes.shape[1]):
            others = np.delete(self.axes, column, axis=1)
            np.add.at(slopes, self.axes[:, column], self.scale * lengths[others].prod(axis=1))
        return slopes

    def _terms(self, lengths: Floats) -> Floats:
        return np.asarray(self.scale * lengths[self.axes].prod(axis=1))

    def _lengths(self, counts: Floats) -> Floats:
        whole = np.floor(counts).astype(np.int64)
        low = self.start + whole[self.group_of]
        part = (counts - whole)[self.group_of]
        high = np.minimum(low + 1, self.kept.size - 1)
        values = np.where(part > 0, (1 - part) * self.kept[low] + part * self.kept[high], self.kept[low])
        return self.fixed + np.bincount(self.axis_of, values, minlength=self.fixed.size)


def cost_of(
    model: KerasModel, graph: ChannelGraph, groups: Sequence[ChannelGroup], orders: Sequence[Ids], measure: Counted
) -> Cost:
    """Return the cost of `model` in one measure; group g keeps its places in the order `orders[g]`.

    `channels` counts the channels of `groups`, each once.
    """
    if measure == "channels":
        held = [[group.channels] for group in groups]
        return _assemble(graph.count, [1.0] * len(held), held, groups, orders, [""] * len(held))
    by_layer: dict[str, dict[str, list[Slot]]] = {}
    for slot in graph.slots:
        by_layer.setdefault(slot.layer, {}).setdefault(slot.weight, []).append(slot)
    scales, axes, layers = [], [], []
    works = work_of(model) if measure == "macs" else {}
    for layer in model.layers:
        per_element = _per_element(works.get(layer.name), measure)
        slots_of = {id(slots[0].variable(layer)): slots for slots in by_layer.get(layer.name, {}).values()}
        for variable in layer.weights:
            slots = slots_of.get(id(variable), [])
            held_axes = {slot.axis for slot in slots}
            rest = [size for axis, size in enumerate(variable.shape) if axis not in held_axes]
            scales.append(per_element(variable) * float(np.prod(rest, dtype=np.float64)))
            axes.append([slot.channels for slot in slots])
            layers.append(layer.name)
    for name, work in works.items():
        scales.append(work.products)
        axes.append([])
        layers.append(name)
    return _assemble(graph.count, scales, axes, groups, orders, layers)


def worths(model: KerasModel, graph: ChannelGraph, groups: Sequence[ChannelGroup], measure: Counted) -> list[Floats]:
    """Return for each channel of each group how much the network's cost drops if it alone goes."""
    orders = [np.arange(group.channels.size) for group in groups]
    cost = cost_of(model, graph, groups, orders, measure)
    counts = np.array([group.channels.size for group in groups], np.float64)
    slopes = cost.slopes(counts)
    drops = [np.zeros(group.channels.size) for group in groups]
    for axis, group, start in zip(cost.axis_of, cost.group_of, cost.start, strict=True):
        size = drops[group].size
        drops[group] += slopes[axis] * np.diff(cost.kept[start : start + size + 1])
    return drops


def _per_element(work: Work | None, measure: Counted) -> Any:
    """Return a function from a variable of a layer, which does this work, to the cost of one of its elements."""
    if measure == "params":
        return lambda _: 1.0
    if work is None:
        return lambda variable: float(variable.dtype.size)
    often = work.per_element
    return lambda variable: often.get(id(variable), 0.0)


def _assemble(
    channels: int,
    scales: Sequence[float],
    terms: Sequence[Sequence[Ids]],
    groups: Sequence[ChannelGroup],
    orders: Sequence[Ids],
    layers: Sequence[str],
) -> Cost:
    """Number the axes (0 is the one of length 1), and find which groups each holds how often."""
    width = max((len(term) for term in terms), default=0) or 1
    axes = np.zeros((len(terms), width), np.int64)
    numbered: list[Ids] = [np.zeros(0, np.int64)]
    for row, term in enumerate(terms):
        for column, ids in enumerate(term):
            axes[row, column] = len(numbered)
            numbered.append(ids)
    owner = np.full(channels, -1, np.int64)
    for index, group in enumerate(groups):
        owner[group.channels] = index
    fixed = np.array([1.0, *(float((owner[ids] < 0).sum()) for ids in numbered[1:])])
    pairs: list[tuple[int, int, int]] = []
    kept: list[Floats] = [np.zeros(1)]
    length = 1
    for axis, ids in enumerate(numbered):
        for index in np.unique(owner[ids][owner[ids] >= 0]).tolist():
            group, inside = groups[index], ids[owner[ids] == index]
            often = np.bincount(np.searchsorted(group.channels, inside), minlength=group.channels.size)
            pairs.append((axis, index, length))
            kept.append(np.concatenate([[0.0], np.cumsum(often[orders[index]], dtype=np.float64)]))
            length += kept[-1].size
    table = np.array(pairs, np.int64).reshape(-1, 3)
    return Cost(
        scale=np.array(scales, np.float64),
        axes=axes,
        axis_of=table[:, 0],
        group_of=table[:, 1],
        start=table[:, 2],
        kept=np.concatenate(kept),
        fixed=fixed,
        layers=tuple(layers),
    )
