"""Measure filters, the weights of a producing layer that make one channel.

That of a separable convolution is its pointwise weights, each times the size of the depthwise filter it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.channels.groups import ChannelGroup, Slot
from stages.keras.types import KerasModel
from stages.prune.ranking.criterion import Question
from stages.prune.ranking.members import Member, Scores


def kernels(group: ChannelGroup) -> list[Slot]:
    """Return the weights that make the group's channels, except biases."""
    return [slot for slot in group.producers if slot.weight.rpartition(".")[2] != "bias"]


def filter_sizes(question: Question, size: Callable[[NDArray[Any]], Scores]) -> list[list[Member]]:
    """Return the `size` of the filters, a row each, of all layers that make a group's channels, for each group."""
    model = question.model
    return [
        [Member(slot.channels, np.asarray(size(_filters(model, slot)))) for slot in kernels(group)]
        for group in question.groups
    ]


def values(model: KerasModel, slot: Slot) -> NDArray[np.float64]:
    """Return a weight as float64."""
    return np.asarray(slot.variable(model.get_layer(slot.layer)).numpy().astype(np.float64))


def mean_absolute(filters: NDArray[Any]) -> Scores:
    """Return the mean absolute weight of each filter."""
    return np.asarray(np.mean(np.abs(filters), axis=1))


def root_mean_square(filters: NDArray[Any]) -> Scores:
    """Return the root mean square of each filter."""
    return np.asarray(np.sqrt(np.mean(np.square(filters), axis=1)))


def mean_distances(filters: NDArray[Any]) -> Scores:
    """Return the mean distance, in root mean square, from each filter to all others."""
    squares = np.square(filters).sum(axis=1)
    # By a product of matrices: the differences themselves would be one filter for each pair of filters. Rounding can
    # bring the square of a small distance below 0.
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * filters @ filters.T, 0))
    return np.asarray(distances.sum(axis=1) / max(1, len(filters) - 1) / filters.shape[1] ** 0.5)


def layer_adaptive(filters: NDArray[Any]) -> Scores:
    """Return each filter's squared size divided by the sum of those at least as big."""
    squares = np.square(filters).sum(axis=1)
    order = np.argsort(-squares, kind="stable")
    at_least_as_big = np.empty_like(squares)
    at_least_as_big[order] = np.cumsum(squares[order])
    # The bound is for layers whose filters are all zero.
    return np.asarray(squares / np.maximum(at_least_as_big, 1e-300))


def _filters(model: KerasModel, slot: Slot) -> NDArray[np.float64]:
    """Return the filters along the slot's axis, a row each."""
    kernel = values(model, slot)
    depthwise = getattr(model.get_layer(slot.layer), "depthwise_kernel", None)
    if depthwise is not None and slot.weight == "pointwise_kernel":
        read = depthwise.numpy().astype(np.float64)  # (…, channels, multiplier)
        kernel = kernel * root_mean_square(read.reshape(-1, read.shape[-2] * read.shape[-1]).T).reshape(-1, 1)
    return np.moveaxis(kernel, slot.axis, 0).reshape(kernel.shape[slot.axis], -1)
