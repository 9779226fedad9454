"""Rank by weights alone: no data, a second for any network. `filters.py` says what a filter is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.prune.ranking.criterion import Criterion, Question, criterion

if TYPE_CHECKING:
    from stages.prune.ranking.members import Member

magnitude = Criterion(None, sparse="magnitude")  # of single weights; l1 and l2 are the magnitudes of channels


@criterion(sparse="magnitude")
def l1(question: Question) -> list[list[Member]]:
    """Compute the mean absolute weight of each filter, so that layers with filters of other sizes are comparable.

    Choose it as a baseline: most published results are compared with it (Li et al., "Pruning Filters for Efficient
    ConvNets", 2017).
    """
    from stages.prune.ranking.filters import filter_sizes, mean_absolute

    return filter_sizes(question, mean_absolute)


@criterion(sparse="magnitude")
def l2(question: Question) -> list[list[Member]]:
    """Compute the root mean square of each filter. Choose it without data and time to try others (Li et al., 2017)."""
    from stages.prune.ranking.filters import filter_sizes, root_mean_square

    return filter_sizes(question, root_mean_square)


@criterion()
def fpgm(question: Question) -> list[list[Member]]:
    """Compute the mean distance from each filter to all others of its layer, in root mean square.

    Filters near the geometric median can be replaced by the others. Choose it if filters are similar in size: wide
    layers, strong weight decay (He et al., "Filter Pruning via Geometric Median", 2019).
    """
    from stages.prune.ranking.filters import filter_sizes, mean_distances

    return filter_sizes(question, mean_distances)


@criterion(comparable=True)
def lamp(question: Question) -> list[list[Member]]:
    """Divide the filter's squared size by the sum of those at least as big in its layer: 1 for each layer's biggest.

    Choose it for `scope: global` with a target on parameters: it balances the loss over layers by itself and needs no
    normalization (Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021; there over individual
    weights, here over filters).
    """
    from stages.prune.ranking.filters import filter_sizes, layer_adaptive

    return filter_sizes(question, layer_adaptive)


@criterion()
def bn_scale(question: Question) -> list[list[Member]]:
    """Return |gamma| of the batch normalizations on the channel; nothing for a group that has none.

    Choose it if the network was trained with a penalty on these scales (Liu et al., "Learning Efficient Convolutional
    Networks through Network Slimming", 2017).
    """
    from stages.prune.ranking.filters import values
    from stages.prune.ranking.members import Member

    return [
        [
            Member(slot.channels, abs(values(question.model, slot)))
            for slot in group.pass_through
            if slot.weight.rpartition(".")[2] == "gamma"
        ]
        for group in question.groups
    ]


@criterion(comparable=True, sparse="random")
def random(question: Question) -> list[list[Member]]:
    """Draw scores by the seed. Choose it as the baseline that every other criterion has to beat."""
    import numpy as np

    from stages.prune.ranking.members import Member

    return [
        [Member(group.channels, np.random.default_rng((question.seed, index)).random(group.channels.size))]
        for index, group in enumerate(question.groups)
    ]
