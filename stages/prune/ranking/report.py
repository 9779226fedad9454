"""Hold how the channels of a network were ranked, as a value that is recorded: any number of them can go by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import rfc8785

from pipeline.errors import ModelError
from pipeline.records.values import Value
from stages.keras.channels.groups import ChannelGroup
from stages.prune.config import RankingConfig
from stages.prune.ranking.members import Scores
from stages.prune.ranking.predicted_loss import predicted_losses


class RankedGroup(Value):
    """Hold a group's scores, in the order of its channels; None if the criterion can't rank it.

    `losses` is the predicted loss by how many channels are removed, from 0 to all, for criteria that are a loss.
    """

    name: str
    scores: tuple[float, ...] | None
    losses: tuple[float, ...] | None


class RankingReport(Value):
    """Hold the scores of every group that can be pruned, exact to the last bit, by `criterion` on `samples` samples."""

    schema_version: Literal[1] = 1
    criterion: str
    samples: int
    groups: tuple[RankedGroup, ...]

    @classmethod
    def of(
        cls, config: RankingConfig, samples: int, groups: Sequence[ChannelGroup], scores: Sequence[Scores | None]
    ) -> RankingReport:
        """Return the report of what `group_scores` gave."""
        loss = config.declared.loss
        ranked = tuple(_ranked(group.name, own, loss) for group, own in zip(groups, scores, strict=True))
        return cls(criterion=config.criterion, samples=samples, groups=ranked)

    def scores_of(self, groups: Sequence[ChannelGroup]) -> list[Scores | None]:
        """Return the scores of these groups, which may be some of those that were ranked; ModelError for others."""
        known = {group.name: group.scores for group in self.groups}
        found = []
        for group in groups:
            scores = known.get(group.name, ())
            if scores is not None and len(scores) != group.channels.size:
                raise ModelError("the ranking is of another network", where=group.name, hint="please report it")
            found.append(None if scores is None else np.array(scores, np.float64))
        return found

    def to_json(self) -> bytes:
        """Return canonical JSON: equal rankings are equal bytes, and numbers are read back as they were."""
        return rfc8785.dumps(self.model_dump(mode="json"))


def _ranked(name: str, scores: Scores | None, loss: bool) -> RankedGroup:
    if scores is None:
        return RankedGroup(name=name, scores=None, losses=None)
    losses = tuple(predicted_losses(scores)[::-1].tolist()) if loss else None
    return RankedGroup(name=name, scores=tuple(scores.tolist()), losses=losses)
