"""Define a third-party criterion: the number of samples times the channel's place. Nothing else knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.prune.ranking.criterion import Question, criterion

if TYPE_CHECKING:
    from stages.prune.ranking.members import Member


@criterion(needs="samples")
def toy_order(question: Question) -> list[list[Member]]:
    """Score channels by their places. Choose it in tests."""
    import numpy as np

    from stages.prune.ranking.members import Member

    count = len(question.samples)
    return [[Member(group.channels, np.arange(group.channels.size) * float(count))] for group in question.groups]
