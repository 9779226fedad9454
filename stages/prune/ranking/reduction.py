"""Reduce several layers' values for a channel to one score, and make scores of groups comparable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.keras.channels.groups import ChannelGroup
from stages.keras.channels.labels import Ids
from stages.prune.config import Normalisation, Reduction
from stages.prune.ranking.members import Member, Scores


def reduced(group: ChannelGroup, members: Sequence[Member], how: Reduction) -> Scores | None:
    """Return one score per channel of the group, in its order; None if a channel is in no member.

    `mean`, `max` and `sum` cover every index, in any member, that holds the channel (a repeated channel has several);
    `first` takes the first member that holds it, for groups in which one layer represents all.
    """
    size = group.channels.size
    positions, values = _placed(group, members)
    if np.bincount(positions, minlength=size).min(initial=1) == 0 or not positions.size:
        return None
    match how:
        case "max":
            scores = np.full(size, -np.inf)
            np.maximum.at(scores, positions, values)
            return scores
        case "first":
            _, first = np.unique(positions, return_index=True)
            return values[first]
        case "sum":
            return np.bincount(positions, values, minlength=size).astype(np.float64)
        case "mean":
            return np.asarray(np.bincount(positions, values, minlength=size) / np.bincount(positions, minlength=size))


def normalized(scores: Scores, how: Normalisation) -> Scores:
    """Scale a group's scores by their mean or maximum, to standard scores, or not at all."""
    match how:
        case "none":
            return scores
        case "mean":
            return np.asarray(scores / (scores.mean() or 1.0))
        case "max":
            return np.asarray(scores / (scores.max() or 1.0))
        case "standardised":
            return np.asarray((scores - scores.mean()) / (scores.std() or 1.0))


def _placed(group: ChannelGroup, members: Sequence[Member]) -> tuple[Ids, Scores]:
    """Return places within the group, and the values there, of all that the members say about it."""
    channels = np.concatenate([member.channels for member in members]) if members else group.channels[:0]
    values = np.concatenate([member.values for member in members]) if members else np.zeros(0)
    # Clipped, because `searchsorted` gives one more than the last index for ids above all of the group's.
    positions = np.searchsorted(group.channels, channels).clip(max=group.channels.size - 1)
    inside = group.channels[positions] == channels  # a member may hold other groups' channels as well
    return positions[inside], values[inside]
