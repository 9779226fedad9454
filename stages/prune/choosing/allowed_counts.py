"""List which numbers of channels a group may keep: multiples for the runtime, minimums, whole blocks."""

from __future__ import annotations

from math import ceil, gcd, lcm

import numpy as np
from numpy.typing import NDArray

from stages.keras.channels.groups import ChannelGroup
from stages.prune.config import PruneConfig

Counts = NDArray[np.int64]


def allowed_counts(group: ChannelGroup, config: PruneConfig, steps: Counts | None = None) -> Counts:
    """Return the numbers of channels that this group may keep, ascending: multiples if it is big enough, or all.

    `steps` are the measured ones for `round_to: auto`; without them there, all numbers are allowed.
    """
    repeats = filters_per_channel(group)
    size = group.channels.size
    floor = min(size, max(1, ceil(config.min_channels / min(repeats))))
    if config.round_to == "auto":
        counts = np.arange(1, size + 1) if steps is None else steps
        return counts[counts >= floor]
    # Each channel is `repeat` filters of a producer, and their number is to be a multiple of `round_to`.
    step = lcm(*(config.round_to // gcd(config.round_to, repeat) for repeat in repeats))
    counts = np.arange(1, size + 1)
    if size >= step:
        counts = counts[(counts % step == 0) | (counts == size)]
    return counts[counts >= floor]


def nearest(counts: Counts, wanted: float) -> int:
    """Return the place in `counts` of what is nearest to `wanted`."""
    return int(np.argmin(np.abs(counts - wanted)))


def filters_per_channel(group: ChannelGroup) -> set[int]:
    """Return how many indices of a producer make one channel: more than one in grouped convolutions."""
    repeats = {1} if not group.producers else set()
    for slot in group.producers:
        counts = np.bincount(slot.channels)[group.channels]
        repeats.add(int(counts[0]) if (counts == counts[0]).all() else 1)
    return repeats
