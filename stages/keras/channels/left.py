"""Name the channels of a network that a smaller one still has, layer by layer."""

from __future__ import annotations

import json

import numpy as np

from stages.keras.channels.groups import ChannelGraph
from stages.keras.channels.labels import Ids, Keep
from stages.keras.layer_kinds import kind_of
from stages.keras.types import KerasLayer, KerasModel


def channels_left(model: KerasModel, graph: ChannelGraph, keep: Keep) -> dict[str, Ids]:
    """Return for each layer with a kernel, or that folds, which of its output channels stay, where some go."""
    left = {}
    for slot in graph.slots:
        layer = model.get_layer(slot.layer)
        stays = keep[slot.channels]
        if stays.all() or (slot.weight, slot.axis) != _outputs(layer):
            continue
        places = np.flatnonzero(stays)
        if kind_of(layer).kernels and len(kind_of(layer).kernels[-1].outputs) == 2:  # depthwise
            multiplier = int(layer.depth_multiplier)
            places = (places[:, None] * multiplier + np.arange(multiplier)).reshape(-1)
        left[slot.layer] = places
    return left


def _outputs(layer: KerasLayer) -> tuple[str, int] | None:
    """Return the weight and its axis along which the output channels of the layer lie."""
    kind = kind_of(layer)
    if kind.folds:
        return "moving_mean", 0
    if not kind.kernels:
        return None
    kernel = kind.kernels[-1]
    return kernel.weight, len(getattr(layer, kernel.weight).shape) + kernel.outputs[0]


def left_in(report: bytes) -> dict[str, Ids]:
    """Return what `channels_left` gave, from the prune report that holds it as `kept`."""
    kept = json.loads(report)["kept"]
    return {name: np.asarray(places, np.int64) for name, places in kept.items()}
