"""Rank by weights alone: no data, a second for any network.

A filter consists of all weights of a producing layer that make one channel. That of a separable convolution is its
pointwise weights, each times the size of the depthwise filter it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.types import KerasModel
from stages.prune.analysis.groups import ChannelGroup, Slot
from stages.prune.ranking.criteria.reduction import Member, Scores


def l1(model: KerasModel, group: ChannelGroup) -> list[Member]:
    """Compute the mean absolute weight of each filter, so that layers with filters of other sizes are comparable.

    Choose it as a baseline: most published results are compared with it (Li et al., "Pruning Filters for Efficient
    ConvNets", 2017).
    """
    return _filter_sizes(model, group, lambda filters: np.mean(np.abs(filters), axis=1))


def l2(model: KerasModel, group: ChannelGroup) -> list[Member]:
    """Compute the root mean square of each filter. Choose it without data and time to try others (Li et al., 2017)."""
    return _filter_sizes(model, group, _root_mean_square)


def fpgm(model: KerasModel, group: ChannelGroup) -> list[Member]:
    """Compute the mean distance from each filter to all others of its layer, in root mean square.

    Filters near the geometric median can be replaced by the others. Choose it if filters are similar in size: wide
    layers, strong weight decay (He et al., "Filter Pruning via Geometric Median", 2019).
    """
    return _filter_sizes(model, group, _mean_distances)


def lamp(model: KerasModel, group: ChannelGroup) -> list[Member]:
    """Divide the filter's squared size by the sum of those at least as big in its layer: 1 for each layer's biggest.

    Choose it for `scope: global` with a target on parameters: it balances the loss over layers by itself and needs no
    normalization (Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021; there over individual
    weights, here over filters).
    """
    return _filter_sizes(model, group, _layer_adaptive)


def bn_scale(model: KerasModel, group: ChannelGroup) -> list[Member]:
    """Return |gamma| of the batch normalizations on the channel; nothing for a group that has none.

    Choose it if the network was trained with a penalty on these scales (Liu et al., "Learning Efficient Convolutional
    Networks through Network Slimming", 2017).
    """
    scales = [slot for slot in group.pass_through if slot.weight.rpartition(".")[2] == "gamma"]
    return [Member(slot.channels, np.abs(_values(model, slot))) for slot in scales]


def kernels(group: ChannelGroup) -> list[Slot]:
    """Return the weights that make the group's channels, except biases."""
    return [slot for slot in group.producers if slot.weight.rpartition(".")[2] != "bias"]


def _filter_sizes(model: KerasModel, group: ChannelGroup, size: Callable[[NDArray[Any]], Scores]) -> list[Member]:
    return [Member(slot.channels, np.asarray(size(_filters(model, slot)))) for slot in kernels(group)]


def _filters(model: KerasModel, slot: Slot) -> NDArray[np.float64]:
    """Return the filters along the slot's axis, a row each."""
    kernel = _values(model, slot)
    depthwise = getattr(model.get_layer(slot.layer), "depthwise_kernel", None)
    if depthwise is not None and slot.weight == "pointwise_kernel":
        read = depthwise.numpy().astype(np.float64)  # (…, channels, multiplier)
        kernel = kernel * _root_mean_square(read.reshape(-1, read.shape[-2] * read.shape[-1]).T).reshape(-1, 1)
    return np.moveaxis(kernel, slot.axis, 0).reshape(kernel.shape[slot.axis], -1)


def _values(model: KerasModel, slot: Slot) -> NDArray[np.float64]:
    return np.asarray(slot.variable(model.get_layer(slot.layer)).numpy().astype(np.float64))


def _root_mean_square(filters: NDArray[Any]) -> Scores:
    return np.asarray(np.sqrt(np.mean(np.square(filters), axis=1)))


def _mean_distances(filters: NDArray[Any]) -> Scores:
    squares = np.square(filters).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * filters @ filters.T, 0))
    return np.asarray(distances.sum(axis=1) / max(1, len(filters) - 1) / filters.shape[1] ** 0.5)


def _layer_adaptive(filters: NDArray[Any]) -> Scores:
    squares = np.square(filters).sum(axis=1)
    order = np.argsort(-squares, kind="stable")
    at_least_as_big = np.empty_like(squares)
    at_least_as_big[order] = np.cumsum(squares[order])
    return np.asarray(squares / np.maximum(at_least_as_big, 1e-300))
