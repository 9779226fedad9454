"""How important each channel of a group is. Higher scores stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.prune.config import Criterion
from stages.prune.groups import ChannelGroup, Slot

Scores = NDArray[np.float64]
Norm = Callable[[NDArray[Any], tuple[int, ...]], Scores]  # over some axes of an array


def group_scores(model: Any, groups: Sequence[ChannelGroup], criterion: Criterion, seed: int) -> list[Scores | None]:
    """A score for each channel of each group, in the group's order; None where the criterion has nothing to go by.

    `l1`, `l2`: the filter that makes the channel, by its mean absolute weight or root mean square, so that layers with
    filters of different sizes compare (Li et al., "Pruning Filters for Efficient ConvNets", 2017). A channel that
    several layers make has the mean over them.
    `bn_scale`: |gamma| of the batch normalisations on the channel (Liu et al., "Network Slimming", 2017).
    `random`: uniform numbers from the seed.
    """
    match criterion:
        case "l1":
            return [_filter_scores(model, group, _mean_absolute) for group in groups]
        case "l2":
            return [_filter_scores(model, group, _root_mean_square) for group in groups]
        case "bn_scale":
            return [_scale_scores(model, group) for group in groups]
        case "random":
            return [np.random.default_rng((seed, i)).random(group.channels.size) for i, group in enumerate(groups)]


def _filter_scores(model: Any, group: ChannelGroup, norm: Norm) -> Scores:
    kernels = [slot for slot in group.producers if slot.weight.rpartition(".")[2] != "bias"]
    return _mean_over_slots(group, [(slot, _filter_sizes(model, slot, norm)) for slot in kernels])


def _filter_sizes(model: Any, slot: Slot, norm: Norm) -> Scores:
    """The size of each filter along the slot's axis.

    A separable convolution's filter is its pointwise weights, each times the size of the depthwise filter it reads.
    """
    layer = model.get_layer(slot.layer)
    kernel = slot.variable(layer).numpy().astype(np.float64)
    depthwise = getattr(layer, "depthwise_kernel", None)
    if depthwise is not None and slot.weight == "pointwise_kernel":
        values = depthwise.numpy().astype(np.float64)  # (…, channels, multiplier)
        kernel = kernel * norm(values, tuple(range(values.ndim - 2))).reshape(-1, 1)
    return norm(kernel, tuple(axis for axis in range(kernel.ndim) if axis != slot.axis))


def _scale_scores(model: Any, group: ChannelGroup) -> Scores | None:
    scales = [slot for slot in group.pass_through if slot.weight == "gamma"]
    sizes = [(slot, np.abs(model.get_layer(slot.layer).gamma.numpy().astype(np.float64))) for slot in scales]
    scores = _mean_over_slots(group, sizes)
    return None if np.isnan(scores).any() else scores


def _mean_over_slots(group: ChannelGroup, sizes: Sequence[tuple[Slot, Scores]]) -> Scores:
    """For each channel of the group the mean over every index, in any slot, that holds it; NaN where none does."""
    channels = np.concatenate([slot.channels for slot, _ in sizes]) if sizes else group.channels[:0]
    values = np.concatenate([size for _, size in sizes]) if sizes else np.zeros(0)
    place = np.searchsorted(group.channels, channels).clip(max=group.channels.size - 1)
    inside = group.channels[place] == channels  # a slot may hold other groups' channels as well
    sums = np.bincount(place[inside], values[inside], minlength=group.channels.size)
    counts = np.bincount(place[inside], minlength=group.channels.size)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts)


def _root_mean_square(values: NDArray[Any], axes: tuple[int, ...]) -> Scores:
    return np.asarray(np.sqrt(np.mean(np.square(values), axis=axes)))


def _mean_absolute(values: NDArray[Any], axes: tuple[int, ...]) -> Scores:
    return np.asarray(np.mean(np.abs(values), axis=axes))
