"""How many channels each group keeps, and which."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, gcd, lcm

import numpy as np
from numpy.typing import NDArray

from stages.prune.config import PruneConfig
from stages.prune.criteria import Scores
from stages.prune.groups import ChannelGraph, ChannelGroup
from stages.prune.labels import Keep

Counts = NDArray[np.int64]


def kept_channels(
    graph: ChannelGraph, groups: Sequence[ChannelGroup], scores: Sequence[Scores], config: PruneConfig
) -> Keep:
    """For each channel of `graph` whether it stays; only channels of `groups` go."""
    keep = np.ones(graph.count, dtype=bool)
    for group, ranking, count in zip(groups, scores, kept_counts(groups, scores, config), strict=True):
        order = np.argsort(-ranking, kind="stable")
        keep[group.channels[order[count:]]] = False
    return keep


def kept_counts(groups: Sequence[ChannelGroup], scores: Sequence[Scores], config: PruneConfig) -> list[int]:
    """How many channels each group keeps: the wanted share, as nearly as rounding and floors permit."""
    allowed = [_allowed_counts(group, config) for group in groups]
    floors = [int(counts[0]) for counts in allowed]
    if config.scope == "global":
        wanted = _global_shares(scores, floors, config.ratio)
    else:
        wanted = [score.size * (1 - config.ratio) for score in scores]
    total = sum(score.size for score in scores) * (1 - config.ratio)
    return _settled(wanted, allowed, total)


def _allowed_counts(group: ChannelGroup, config: PruneConfig) -> Counts:
    """The numbers of channels that this group may keep, ascending: multiples where it is big enough, or all."""
    repeats = _repeats(group)
    size = group.channels.size
    floor = min(size, max(1, ceil(config.min_channels / min(repeats))))
    step = lcm(*(config.round_to // gcd(config.round_to, repeat) for repeat in repeats))
    counts = np.arange(1, size + 1)
    if size >= step:
        counts = counts[(counts % step == 0) | (counts == size)]
    return counts[counts >= floor]


def _repeats(group: ChannelGroup) -> set[int]:
    """How many indices of a producer make one channel: more than one in grouped convolutions."""
    found = {1} if not group.producers else set()
    for slot in group.producers:
        counts = np.bincount(slot.channels)[group.channels]
        found.add(int(counts[0]) if (counts == counts[0]).all() else 1)
    return found


def _global_shares(scores: Sequence[Scores], floors: Sequence[int], ratio: float) -> list[float]:
    """How many channels of each group are left when the least important of the whole network go.

    Scores are divided by their group's mean: what counts is how unimportant a channel is among its own (as Fang et
    al., "DepGraph: Towards Any Structural Pruning", 2023). Each group's best `floor` channels are out of the race.
    """
    relative = [score / (score.mean() or 1.0) for score in scores]
    exposed = [np.sort(score)[: score.size - floor] for score, floor in zip(relative, floors, strict=True)]
    owner = np.repeat(np.arange(len(exposed)), [score.size for score in exposed])
    ranking = np.argsort(np.concatenate(exposed), kind="stable")
    goes = owner[ranking[: round(ratio * sum(score.size for score in scores))]]
    gone = np.bincount(goes, minlength=len(scores))
    return [float(score.size - count) for score, count in zip(scores, gone, strict=True)]


def _settled(wanted: Sequence[float], allowed: Sequence[Counts], total: float) -> list[int]:
    """Allowed counts near the wanted ones, then moved step by step while that brings their sum nearer to `total`.

    Each time the group moves that stays relatively nearest to what it wanted.
    """
    places = [int(np.argmin(np.abs(counts - want))) for counts, want in zip(allowed, wanted, strict=True)]
    while True:
        excess = sum(int(counts[place]) for counts, place in zip(allowed, places, strict=True)) - total
        best, best_cost = None, np.inf
        for group, (counts, place) in enumerate(zip(allowed, places, strict=True)):
            target = place - 1 if excess > 0 else place + 1
            if not 0 <= target < counts.size:
                continue
            moved = abs(excess + counts[target] - counts[place])
            cost = abs(counts[target] - wanted[group]) / counts[-1]
            if moved < abs(excess) - 1e-9 and cost < best_cost:
                best, best_cost = (group, target), cost
        if best is None:
            return [int(counts[place]) for counts, place in zip(allowed, places, strict=True)]
        places[best[0]] = best[1]
