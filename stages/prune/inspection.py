"""Inspect a network: layers, channel groups, and the share of MACs that can be pruned."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np

from pipeline.records.values import Value
from stages.keras.channels.groups import ChannelGraph, ChannelGroup, channel_groups
from stages.keras.channels.labels import Role
from stages.keras.flatten import flattened
from stages.keras.layer_work import Work
from stages.keras.macs import macs_of, work_of
from stages.keras.types import KerasLayer, KerasModel
from stages.prune.choosing.cost import Counted, cost_of


class LayerLine(Value):
    """Describe a layer of the network without nested models. `output` is the shape of one sample; null if it is free.

    `macs` is a lower bound if `macs_exact` is false.
    """

    name: str
    kind: str
    output: tuple[int | None, ...] | None
    params: int
    macs: int
    macs_exact: bool
    groups: tuple[str, ...]  # whose channels it makes


class GroupLine(Value):
    """Describe a channel group: who makes, scales and reads its channels, and why they all stay, if they do."""

    name: str
    channels: int
    makers: tuple[str, ...]
    pass_through: tuple[str, ...]
    consumers: tuple[str, ...]
    frozen: tuple[str, ...]


class Inspection(Value):
    """Describe a network; the shares are of what goes when each group that is not frozen keeps one channel.

    `macs` is a lower bound if `macs_unknown` names layers that may have more, and then its share is an upper one.
    `macs_size` are the shapes assumed for inputs with open sizes.
    """

    schema_version: Literal[1] = 1
    source: str
    name: str
    params: int
    macs: int
    macs_exact: bool
    macs_unknown: tuple[str, ...]
    macs_size: dict[str, tuple[int, ...]] | None
    prunable_params_share: float
    prunable_macs_share: float
    layers: tuple[LayerLine, ...]
    groups: tuple[GroupLine, ...]


def inspect_model(model: KerasModel, source: str) -> Inspection:
    """Inspect what `model` consists of. Raises ModelError if it has no graph of layers."""
    model = flattened(model)
    graph = channel_groups(model)
    makes = {layer.name: tuple(g.name for g in graph.groups if layer.name in g.makers) for layer in model.layers}
    macs, works = macs_of(model), work_of(model)
    layers = tuple(_layer_line(layer, works[layer.name], makes[layer.name]) for layer in model.layers)
    return Inspection(
        source=source,
        name=model.name,
        params=model.count_params(),
        macs=macs.number,
        macs_exact=not macs.unknown,
        macs_unknown=macs.unknown,
        macs_size=macs.size,
        prunable_params_share=_prunable_share(model, graph, "params"),
        prunable_macs_share=_prunable_share(model, graph, "macs"),
        layers=layers,
        groups=tuple(_group_line(group) for group in graph.groups),
    )


def _prunable_share(model: KerasModel, graph: ChannelGraph, measure: Counted) -> float:
    orders = [np.arange(group.channels.size) for group in graph.prunable]
    cost = cost_of(model, graph, graph.prunable, orders, measure)
    whole = cost([order.size for order in orders])
    return 1 - cost([1] * len(orders)) / whole if whole else 0.0


def _layer_line(layer: KerasLayer, work: Work, groups: tuple[str, ...]) -> LayerLine:
    shapes = [layer.get_output_shape_at(call) for call in range(len(layer.inbound_nodes))]
    # One shape for a layer with one output that is called in one way; else there is no single answer.
    single = len(shapes) > 0 and all(shape == shapes[0] for shape in shapes) and isinstance(shapes[0], tuple)
    shape = shapes[0] if single and all(size is None or isinstance(size, int) for size in shapes[0]) else None
    return LayerLine(
        name=layer.name,
        kind=type(layer).__name__,
        output=None if shape is None else tuple(shape[1:]),
        params=layer.count_params(),
        macs=round(work.macs),
        macs_exact=not work.unknown,
        groups=groups,
    )


def _group_line(group: ChannelGroup) -> GroupLine:
    return GroupLine(
        name=group.name,
        channels=group.channels.size,
        makers=group.makers,
        pass_through=group.layers(Role.PASS_THROUGH),
        consumers=group.layers(Role.CONSUMER),
        frozen=tuple(
            f"{reason}" + (f" (×{count})" if count > 1 else "")
            for reason, count in Counter(map(str, group.frozen)).items()
        ),
    )
