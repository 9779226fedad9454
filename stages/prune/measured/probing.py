"""Probe a device for pruning: what layers cost at other numbers of channels, and which numbers are steps.

Runtimes compute channels in tiles: 25 channels can cost as much as 32. So for each group every layer that holds its
channels is measured alone, at its own shape, with every number of channels that the group might keep. A number is a
*step* where more channels cost notably more; numbers from which more channels come nearly free are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.formats.probe import Probe
from stages.keras.channels.groups import ChannelGraph, ChannelGroup, Slot
from stages.keras.channels.labels import Ids
from stages.keras.layer_kinds import kind_of
from stages.keras.macs import input_shapes
from stages.keras.types import KerasLayer, KerasModel
from stages.prune.choosing.allowed_counts import Counts

MOST_COUNTS = 32  # candidates of a group: all numbers up to 32 channels, multiples of 2 up to 64 and so on
MOST_MACS = 1_000_000  # of a probe: layers above it are probed with fewer rows
MOST_OTHER = 128  # channels of the other axis
BARGAIN = 0.25  # more channels at less than this share of the average price are nearly free

Floats = NDArray[np.float64]
Ask = Callable[[Sequence[Probe]], tuple[Mapping[Probe, float], float]]  # costs by probe, and their relative spread


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """Describe an operator that a probe can represent; `inputs` and `outputs` are its channels, index by index.

    None means an axis along which no channels are followed.
    """

    layer: str
    whole: Probe
    inputs: Ids | None
    outputs: Ids | None

    def share(self, group: ChannelGroup) -> tuple[int, int]:
        """Return how many indices of the input and of the output axis are the group's."""
        return _held(self.inputs, group), _held(self.outputs, group)

    def probe(self, group: ChannelGroup, kept: int) -> tuple[Probe, float]:
        """Return the probe with `kept` of the group's channels, and how often its cost is in the layer's."""
        held_in, held_out = self.share(group)
        gone = 1 - kept / group.channels.size
        inputs = max(1, self.whole.inputs - round(held_in * gone))
        outputs = max(1, self.whole.outputs - round(held_out * gone))
        if self.whole.kind != "depthwise":
            inputs = inputs if held_in else min(inputs, MOST_OTHER)
            outputs = outputs if held_out else min(outputs, MOST_OTHER)
        height, width = self._size(bool(held_in), bool(held_out))
        made = self.whole.model_copy(update={"inputs": inputs, "outputs": outputs, "height": height, "width": width})
        others = [
            self.whole.inputs / inputs if not held_in else 1.0,
            self.whole.outputs / outputs if not held_out else 1.0,
        ]
        cut = 1.0 if self.whole.kind == "depthwise" else others[0] * others[1]
        return made, cut * self.whole.positions / made.positions

    def _size(self, asks_inputs: bool, asks_outputs: bool) -> tuple[int, int]:
        """Return height and width at which the probe with all channels stays within the allowed MACs."""
        whole = self.whole
        inputs = whole.inputs if asks_inputs or whole.kind == "depthwise" else min(whole.inputs, MOST_OTHER)
        outputs = whole.outputs if asks_outputs or whole.kind == "depthwise" else min(whole.outputs, MOST_OTHER)
        a_position = whole.model_copy(update={"inputs": inputs, "outputs": outputs}).macs / whole.positions
        positions = max(1, int(MOST_MACS / a_position))
        columns = min(-(-whole.width // whole.strides[1]), positions)
        rows = min(-(-whole.height // whole.strides[0]), max(1, positions // columns))
        return min(whole.height, rows * whole.strides[0]), min(whole.width, columns * whole.strides[1])


@dataclass(frozen=True, slots=True)
class GroupCosts:
    """Hold the cost of a group's channels: `costs` at each of `counts`, over all operators, and of each alone."""

    counts: Counts
    costs: Floats
    operators: tuple[tuple[Operator, Floats], ...]
    spread: float

    @property
    def steps(self) -> Counts:
        """Return the counts that are steps; the largest always is one."""
        return steps_of(self.counts, self.costs, self.spread)


def steps_of(counts: Counts, costs: Floats, spread: float) -> Counts:
    """Return those of `counts` (ascending) that are worth their cost; the largest always is.

    A count is not a step if a larger one is a bargain: each additional channel costs less than a quarter of the average
    price, or no more than what two measurements of one probe differ by. Nor is it a step if it lies above the line from
    a smaller count to a larger one by more than the average price of a channel: 17 with tiles of 16 pays for a whole
    tile, and two groups with 16 and 32 channels do better than two with 17 and 31.
    """
    price = costs[-1] / counts[-1]
    noise = min(spread * costs[-1], BARGAIN * price * counts[0])
    slack = price * counts[0] + noise
    stays = [
        not (costs[index + 1 :] - costs[index] < BARGAIN * price * (counts[index + 1 :] - count) + noise).any()
        and _above_lines(counts, costs, index) <= slack
        for index, count in enumerate(counts)
    ]
    return np.asarray(counts[np.array(stays)], np.int64)


def _above_lines(counts: Counts, costs: Floats, index: int) -> float:
    """Return how far the cost at `index` is above the lowest of all lines from a smaller count to a larger one."""
    if index in (0, counts.size - 1):
        return 0.0
    left, right = costs[:index, None], costs[None, index + 1 :]
    part = (counts[index] - counts[:index, None]) / (counts[None, index + 1 :] - counts[:index, None])
    return float(costs[index] - (left + part * (right - left)).min())


def candidates(size: int) -> Counts:
    """Return the numbers of channels to probe, the largest being `size`."""
    every = 1
    while size > every * MOST_COUNTS:
        every *= 2
    counts = np.arange(every, size + 1, every)
    return counts if counts.size and counts[-1] == size else np.append(counts, size)


def profiles(model: KerasModel, graph: ChannelGraph, ask: Ask) -> list[GroupCosts | None]:
    """Return for each prunable group what its channels cost; None if no probe can represent any of its layers.

    All probes are asked at once: a device takes longer to start than to measure a layer.
    """
    operators = list(operators_of(model, graph))
    held = [[operator for operator in operators if any(operator.share(group))] for group in graph.prunable]
    counts = [candidates(group.channels.size) for group in graph.prunable]
    wanted = [
        [[operator.probe(group, int(count)) for count in own] for operator in holders]
        for group, own, holders in zip(graph.prunable, counts, held, strict=True)
    ]
    questions = {probe for rows in wanted for row in rows for probe, _ in row}
    if not questions:
        return [None] * len(held)
    # Sorted: the order is in the key of the sub-step, and a set's order changes with the hash seed.
    answers, spread = ask(sorted(questions, key=lambda probe: probe.model_dump_json()))
    return [
        _profile(own, holders, [np.array([answers[probe] * often for probe, often in row]) for row in rows], spread)
        for own, holders, rows in zip(counts, held, wanted, strict=True)
    ]


def _profile(counts: Counts, operators: Sequence[Operator], rows: Sequence[Floats], spread: float) -> GroupCosts | None:
    if not operators:
        return None
    return GroupCosts(counts, np.sum(rows, axis=0), tuple(zip(operators, rows, strict=True)), spread)


def operators_of(model: KerasModel, graph: ChannelGraph) -> Iterator[Operator]:
    """Yield the operators of all layers that a probe can represent."""
    slots: dict[str, list[Slot]] = {}
    for slot in graph.slots:
        slots.setdefault(slot.layer, []).append(slot)
    shapes = input_shapes(model)
    for layer in model.layers:
        if layer.name in slots and layer.name in shapes:
            yield from _operators(layer, slots[layer.name], shapes[layer.name][1:-1])


def _operators(layer: KerasLayer, slots: Sequence[Slot], positions: Sequence[int]) -> Iterator[Operator]:
    """Yield the operators of a layer whose first call has this many rows and columns."""
    axes = {(slot.weight, slot.axis): slot.channels for slot in slots}
    kind = kind_of(layer)
    if not kind.probed:
        return
    if kind.kernels[0].probe == "dense":
        rows = int(np.prod(positions, dtype=np.int64))
        inputs, outputs = (int(size) for size in layer.kernel.shape)
        whole = Probe(kind="dense", inputs=inputs, outputs=outputs, height=rows)
        yield Operator(layer.name, whole, axes.get(("kernel", 0)), axes.get(("kernel", 1)))
    elif layer.data_format == "channels_last" and getattr(layer, "groups", 1) == 1:
        sizes, strides = _pair(positions), _pair(layer.strides)
        for kernel in kind.kernels:
            *window, inputs, outputs = (int(size) for size in getattr(layer, kernel.weight).shape)
            held = axes.get((kernel.weight, len(window))), axes.get((kernel.weight, len(window) + 1))
            if kernel.probe == "depthwise":
                if outputs > 1:
                    return  # several filters per channel: no probe is like that
                outputs, held = inputs, (held[0], held[0])
            whole = Probe(
                kind="depthwise" if kernel.probe == "depthwise" else "conv",
                inputs=inputs,
                outputs=outputs,
                height=sizes[0],
                width=sizes[1],
                kernel=_pair(window),
                strides=strides,
            )
            yield Operator(layer.name, whole, *held)
            # The second convolution of a separable one works on the first one's output, without strides.
            sizes, strides = (-(-sizes[0] // strides[0]), -(-sizes[1] // strides[1])), (1, 1)


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    """Return two sizes from one or two; a one-dimensional layer is one over rows of height 1."""
    *first, last = (int(size) for size in sizes)
    return (first[0] if first else 1), last


def _held(ids: Ids | None, group: ChannelGroup) -> int:
    return 0 if ids is None else int(np.isin(ids, group.channels).sum())


@dataclass(frozen=True, slots=True)
class ProfiledCost:
    """Estimate a network's cost by how many channels each group keeps, from what its layers cost alone.

    A layer with axes of two groups costs its total times the share that each of them leaves. Layers without a probe
    cost in proportion. `whole` is the cost with all channels.
    """

    profiles: tuple[GroupCosts | None, ...]
    whole: float

    def __call__(self, counts: Sequence[float] | Floats) -> float:
        """Return the cost if group g keeps `counts[g]` channels."""
        return sum(self.by_layer(counts).values())

    def by_layer(self, counts: Sequence[float] | Floats) -> Mapping[str, float]:
        """Return the cost of each probed layer, with the cost of the others distributed over them."""
        full: dict[Operator, float] = {}
        left: dict[Operator, float] = {}
        for profile, count in zip(self.profiles, counts, strict=True):
            for operator, costs in profile.operators if profile else ():
                full.setdefault(operator, float(costs[-1]))
                share = float(np.interp(count, profile.counts, costs)) / float(costs[-1]) if profile else 1.0
                left[operator] = left.get(operator, 1.0) * share
        total = sum(full.values())
        by_name: dict[str, float] = {}
        for operator, cost in full.items():
            by_name[operator.layer] = by_name.get(operator.layer, 0.0) + self.whole * cost / total * left[operator]
        return by_name
