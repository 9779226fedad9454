"""Rank the channels of groups by structured optimal brain surgeon: from what their readers see to losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from stages.keras.channels.groups import ChannelGroup
from stages.keras.channels.labels import Ids, Role
from stages.keras.regression.normal_equations import add_ridge
from stages.keras.types import KerasModel
from stages.prune.ranking.brain_surgeon import Reader, removal_losses
from stages.prune.ranking.criterion import Question
from stages.prune.ranking.members import Scores
from stages.prune.ranking.readers import Seen, pieces_of, readers_of, seen_by

RIDGE = 1e-3  # of the inputs' mean variance, as `reconstruct` has it
PASS_BYTES = 512 * 2**20  # of covariances that one pass over the samples collects


def removal_losses_of(question: Question) -> list[Scores | None]:
    """Return for each group the loss of each of its channels; None if no reader is linear.

    What readers see is kept for as many groups at once as fit into memory: several passes over the samples if need be.
    """
    passes = passes_of(question.model, question.groups)
    losses: list[Scores | None] = []
    for number, groups in enumerate(passes):
        rows = readers_of(question.model, groups)
        seen = seen_by(question, rows, partial(heard_in_pass, question, number, len(passes)))
        last_reads = {name: place for place, group in enumerate(groups) for name in group.layers(Role.CONSUMER)}
        for place, group in enumerate(groups):
            names = [name for name in group.layers(Role.CONSUMER) if name in seen]
            readers = [reader for name in names for reader in _readers(group, rows[name], seen[name])]
            for name in names:
                if last_reads[name] == place:
                    del seen[name]
            losses.append(removal_losses(readers, group.channels.size) if readers else None)
    return losses


def heard_in_pass(question: Question, number: int, passes: int, done: int, total: int) -> None:
    """Tell that so much of one of several passes is done."""
    question.heard((number * total + done) // passes, total)


def passes_of(model: KerasModel, groups: Sequence[ChannelGroup]) -> list[list[ChannelGroup]]:
    """Return the groups by passes over the samples, so that what the readers of each see fits into memory."""
    passes: list[list[ChannelGroup]] = [[]]
    size = 0
    for group in groups:
        own = _bytes(model, readers_of(model, [group]))
        if passes[-1] and size + own > PASS_BYTES:
            passes.append([])
            size = 0
        passes[-1].append(group)
        size += own
    return passes


def _bytes(model: KerasModel, readers: Mapping[str, Ids]) -> int:
    """Return how large the covariances of `readers` are."""
    matrices = {name: getattr(model.get_layer(name), "groups", 1) for name in readers}
    return sum(8 * matrices[name] * piece.size**2 for name, rows in readers.items() for piece in pieces_of(rows))


def _readers(group: ChannelGroup, channel_of: Ids, seen: Seen) -> Iterator[Reader]:
    """Yield what a layer does with the group: a reader for each of its matrices, and each piece of their inputs."""
    matrices = seen.linear.matrices
    energy = np.sqrt(seen.energy.reshape(matrices.shape[0], matrices.shape[2]))
    for piece in seen.pieces:
        own = np.flatnonzero(np.isin(channel_of[piece.inputs], group.channels))
        own = own[np.argsort(channel_of[piece.inputs[own]], kind="stable")]
        if not own.size:
            continue
        rows = piece.inputs[own]
        channels = np.searchsorted(group.channels, np.unique(channel_of[rows]))
        covariances, _ = piece.moments.covariances()
        add_ridge(covariances, RIDGE)
        for matrix, weigh, covariance in zip(matrices, energy, covariances, strict=True):
            weights = matrix[rows] * weigh
            yield Reader(channels, weights @ weights.T, np.linalg.inv(covariance)[np.ix_(own, own)])
