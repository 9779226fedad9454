"""Reduce several layers' values for a channel to one score, and make scores of groups comparable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.prune.analysis.groups import ChannelGroup
from stages.prune.analysis.labels import Ids
from stages.prune.config import Normalisation, Reduction
from stages.prune.ranking.members import Member, Scores


def reduced(group: ChannelGroup, members: Sequence[Member], how: Reduction) -> Scores | None:
    """Return one score per channel of the group, in its order; None if a channel is in no member.

    `mean`, `max` and `sum` cover every index, in any member, that holds the channel (a repeated channel has several);
    `first` takes the first member that holds it, for groups in which one layer represents all.
    """
    size = group.channels.size
    places, values = _placed(group, members)
    if np.bincount(places, minlength=size).min(initial=1) == 0 or not places.size:
        return None
    match how:
        case "max":
            scores = np.full(size, -np.inf)
            np.maximum.at(scores, places, values)
            return scores
        case "first":
            _, first = np.unique(places, return_index=True)
            return values[first]
        case "sum":
            return np.bincount(places, values, minlength=size).astype(np.float64)
        case "mean":
            return np.asarray(np.bincount(places, values, minlength=size) / np.bincount(places, minlength=size))


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
    places = np.searchsorted(group.channels, channels).clip(max=group.channels.size - 1)
    inside = group.channels[places] == channels  # a member may hold other groups' channels as well
    return places[inside], values[inside]
