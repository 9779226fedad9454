"""Derive channel groups from a functional graph: which channels must go together, who makes, scales and reads them.

A *channel* is a set of indices, over all tensors and weights of the network, that stay or go together. A *group*
consists of all channels that the same layers make: they compete with each other for their places, and because no two
groups share a channel, a group that keeps one channel leaves none of its layers empty. Whatever no rule can follow is
frozen, with the reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.system.memory import collection_paused
from stages.keras.channels.coupling import connected_components
from stages.keras.channels.labels import (
    Call,
    CannotFollowError,
    Carried,
    Constant,
    Fixed,
    Flow,
    Freeze,
    Ids,
    Labels,
    Ledger,
    Path,
    Role,
)
from stages.keras.channels.rules import rule_for
from stages.keras.channels.shared import OncePerArray
from stages.keras.flatten import flattened
from stages.keras.graph import nodes_in_order
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasLayer, KerasModel

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Hold the channels along an axis of a layer's weight (`weight`: its attribute, dotted if nested)."""

    layer: str
    weight: str
    axis: int
    role: Role
    channels: Ids

    def variable(self, layer: KerasLayer) -> Any:
        """Return the weight itself, of a layer like the slot's."""
        return attrgetter(self.weight)(layer)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGroup:
    """Group channels that the same layers make. Its slots may hold other groups' channels as well.

    `makers` made the channels: layers whose `producers` can be sliced, or, in frozen groups only, others.
    """

    name: str
    channels: Ids
    makers: tuple[str, ...]
    producers: tuple[Slot, ...]
    pass_through: tuple[Slot, ...]
    consumers: tuple[Slot, ...]
    frozen: tuple[Freeze, ...]

    def layers(self, role: Role) -> tuple[str, ...]:
        """Return the layers that hold the group in this role, each once, in the network's order."""
        slots = {Role.PRODUCER: self.producers, Role.PASS_THROUGH: self.pass_through, Role.CONSUMER: self.consumers}
        return tuple(dict.fromkeys(slot.layer for slot in slots[role]))


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGraph:
    """Hold the coupled channels of a network, numbered from 0 to `count` - 1.

    `sizes` names per layer the entries of its configuration or call arguments that count channels, and the channels
    they count; `constants` those that hold a value for each channel.
    """

    count: int
    groups: tuple[ChannelGroup, ...]
    slots: tuple[Slot, ...]
    sizes: Mapping[str, Mapping[Path, Ids]]
    constants: Mapping[str, Mapping[Path, Constant]] = field(default_factory=dict)

    @property
    def prunable(self) -> tuple[ChannelGroup, ...]:
        """Return the groups that are not frozen."""
        return tuple(group for group in self.groups if not group.frozen)


def channel_groups(model: KerasModel) -> ChannelGraph:
    """Return the channel groups of a functional or sequential model; ModelError if the model has no graph.

    Nested models are flattened first: layers have the names that `flattened` gives them.
    """
    with collection_paused():
        return _followed(flattened(model))


def _followed(model: KerasModel) -> ChannelGraph:
    walk = _Walk(Ledger(), {}, {}, defaultdict(list))
    for node in nodes_in_order(model):
        walk.visit(node)
    for tensor in model.outputs:
        carried = walk.carried[id(tensor)]
        if isinstance(carried, Labels):
            walk.ledger.freeze(carried.ids, Freeze(tensor._keras_history.layer.name, "model output"))  # noqa: SLF001 - Keras' only way from a tensor to its layer
    return _graph_of(walk)


@dataclass(slots=True)
class _Walk:
    """Hold the state of one pass over a network: what each tensor carries, and what each layer was found to hold."""

    ledger: Ledger
    carried: dict[int, Carried]
    flows: dict[str, Flow]
    lost: defaultdict[str, list[Freeze]]  # layers with a call that could not be followed

    def visit(self, node: Any) -> None:
        flatten = import_tensorflow().nest.flatten
        outputs = flatten(node.outputs)
        call = Call(
            name=node.layer.name,
            layer=node.layer,
            inputs=tuple(self.carried[id(tensor)] for tensor in node.keras_inputs),
            input_shapes=tuple(tuple(tensor.shape) for tensor in node.keras_inputs),
            output_shapes=tuple(tuple(tensor.shape) for tensor in outputs),
            arguments=(node.call_args, node.call_kwargs),
            ledger=self.ledger,
        )
        made_before = self.ledger.count
        try:
            flow = _follow(call)
            self._join_calls(node.layer.name, flow)
        except CannotFollowError as error:
            flow = self._lose(call, str(error), made_before)
        self.carried.update({id(tensor): carried for tensor, carried in zip(outputs, flow.outputs, strict=True)})

    def _lose(self, call: Call, reason: str, made_before: int) -> Flow:
        """Freeze all that enters the call or was made in it; nothing can be removed from its outputs."""
        freeze = Freeze(call.layer.name, reason)
        self.lost[freeze.layer].append(freeze)
        self.ledger.freeze(np.arange(made_before, self.ledger.count), freeze)
        for carried in call.inputs:
            if isinstance(carried, Labels):
                self.ledger.freeze(carried.ids, freeze)
        return Flow(outputs=tuple(Fixed(freeze.layer, reason) for _ in call.output_shapes))

    def _join_calls(self, name: str, flow: Flow) -> None:
        """Couple the calls of a layer that is called again: they share its weights."""
        earlier = self.flows.setdefault(name, flow)
        if earlier is flow:
            return
        if _places(earlier) != _places(flow):
            raise CannotFollowError("holds channels differently in another call")
        for before, now in zip(_held(earlier), _held(flow), strict=True):
            self.ledger.couple(before, now)


def _follow(call: Call) -> Flow:
    function = rule_for(call.layer)
    if function is None:
        raise CannotFollowError(f"unknown layer kind {type(call.layer).__name__}")
    flow = function(call)
    present = {name: axes for name, axes in flow.weights.items() if _has_weight(call.layer, name)}
    return replace(flow, weights=present)  # rules name biases and scales that a layer may lack


def _has_weight(layer: KerasLayer, path: str) -> bool:
    for name in path.split("."):
        layer = getattr(layer, name, None)
    return layer is not None


def _places(flow: Flow) -> list[Any]:
    weights = ((weight, axis) for weight, axes in flow.weights.items() for axis in axes)
    return [*weights, *flow.sizes, *((path, constant.axis) for path, constant in flow.constants.items())]


def _held(flow: Flow) -> list[Ids]:
    weights = (held.ids for axes in flow.weights.values() for held in axes.values())
    return [*weights, *flow.sizes.values(), *(constant.ids for constant in flow.constants.values())]


def _graph_of(walk: _Walk) -> ChannelGraph:
    """Turn ids into channels, and channels into groups."""
    ledger = walk.ledger
    for name, reasons in walk.lost.items():  # a call that can't be followed fixes the weights of all calls
        for ids in _held(walk.flows[name]) if name in walk.flows else ():
            ledger.freeze(ids, reasons[0])
    channel_of = connected_components(ledger.count, ledger.couplings)
    count = int(channel_of.max()) + 1 if ledger.count else 0
    channels_of = OncePerArray(channel_of.__getitem__)
    slots = tuple(_slots(walk.flows, channels_of))
    sizes = {
        name: {entry: channels_of(ids) for entry, ids in flow.sizes.items()}
        for name, flow in walk.flows.items()
        if flow.sizes
    }
    constants = {
        name: {path: Constant(channels_of(held.ids), held.axis) for path, held in flow.constants.items()}
        for name, flow in walk.flows.items()
        if flow.constants
    }
    return ChannelGraph(count, _groups(ledger, channel_of, count, slots), slots, sizes, constants)


def _slots(flows: Mapping[str, Flow], channels_of: OncePerArray[Ids]) -> Iterator[Slot]:
    for layer, flow in flows.items():
        for weight, axes in flow.weights.items():
            for axis, held in axes.items():
                yield Slot(layer, weight, axis, held.role, channels_of(held.ids))


def _groups(ledger: Ledger, channel_of: Ids, count: int, slots: Sequence[Slot]) -> tuple[ChannelGroup, ...]:
    """Group channels with the same makers and in the same parts, frozen ones separately, in the order of creation."""
    names = list(dict.fromkeys(name for name, _ in ledger.makers))
    frozen = _mask(count, [channel_of[ids] for ids, _ in ledger.frozen])
    parts = [_mask(count, [channel_of[ids]]) for ids in ledger.parts]
    members: defaultdict[tuple[tuple[int, ...], bool, tuple[int, ...]], list[Ids]] = defaultdict(list)
    for channels, made_by in _runs(ledger, names, channel_of, [frozen, *parts]):
        first = channels[0]
        within = tuple(number for number, part in enumerate(parts) if part[first])
        members[made_by, bool(frozen[first]), within].append(channels)

    group_of = np.zeros(count, dtype=np.int64)
    for index, runs in enumerate(members.values()):
        for channels in runs:
            group_of[channels] = index
    groups_of = OncePerArray(lambda channels: _distinct(group_of[channels]))
    held = _by_group((groups_of(slot.channels), slot) for slot in slots)
    reasons = _by_group((_distinct(group_of[channel_of[ids]]), freeze) for ids, freeze in ledger.frozen)
    titles = _titles([names[made_by[0]] for made_by, *_ in members])
    return tuple(
        ChannelGroup(
            name=titles[index],
            channels=np.concatenate(runs),
            makers=tuple(names[maker] for maker in made_by),
            producers=tuple(slot for slot in held[index] if slot.role is Role.PRODUCER),
            pass_through=tuple(slot for slot in held[index] if slot.role is Role.PASS_THROUGH),
            consumers=tuple(slot for slot in held[index] if slot.role is Role.CONSUMER),
            frozen=tuple(dict.fromkeys(reasons[index])),
        )
        for index, ((made_by, *_), runs) in enumerate(members.items())
    )


def _mask(count: int, channels: Iterable[Ids]) -> NDArray[np.bool_]:
    mask = np.zeros(count, dtype=bool)
    for ids in channels:
        mask[ids] = True
    return mask


def _runs(
    ledger: Ledger, names: Sequence[str], channel_of: Ids, masks: Sequence[NDArray[np.bool_]]
) -> Iterator[tuple[Ids, tuple[int, ...]]]:
    """Yield consecutive channels with the same makers that no mask divides, with the makers as indices into `names`.

    In whole arrays: wide networks have a hundred thousand channels, and some hundred runs.
    """
    if not names:
        return
    number = {name: index for index, name in enumerate(names)}
    maker_of = np.repeat([number[name] for name, _ in ledger.makers], [size for _, size in ledger.makers])
    # `unique` hashes, at a tenth of the speed. Layers make channels in runs, which timsort exploits.
    pairs = np.sort(channel_of * len(names) + maker_of, kind="stable")
    channels, makers = np.divmod(pairs[np.diff(pairs, prepend=-1) != 0], len(names))
    starts = np.flatnonzero(np.diff(channels, prepend=-1))
    counts = np.diff(starts, append=makers.size)
    before = np.arange(makers.size) - np.repeat(counts, counts)  # the place of each maker in the channel before
    as_before = np.logical_and.reduceat(makers == makers[before], starts)
    breaks = ~as_before | (np.diff(counts, prepend=0) != 0)
    for mask in masks:
        breaks[1:] |= mask[1:] != mask[:-1]
    edges = np.append(np.flatnonzero(breaks), breaks.size)
    for first, end in pairwise(edges.tolist()):
        yield np.arange(first, end), tuple(makers[starts[first] : starts[first] + counts[first]].tolist())


def _distinct(numbers: Ids) -> list[int]:
    alone = numbers.size and (numbers == numbers[0]).all()  # nearly always the case
    return [int(number) for number in (numbers[:1] if alone else np.unique(numbers))]


def _by_group(items: Iterable[tuple[Sequence[int], Item]]) -> defaultdict[int, list[Item]]:
    """Collect each item in the list of every group that is named with it."""
    by_group: defaultdict[int, list[Item]] = defaultdict(list)
    for numbers, item in items:
        for number in numbers:
            by_group[number].append(item)
    return by_group


def _titles(names: Sequence[str]) -> list[str]:
    """Make names unique: a, a#2, a#3."""
    seen: Counter[str] = Counter()
    titles = []
    for name in names:
        seen[name] += 1
        titles.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return titles
