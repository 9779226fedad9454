"""Add up what channels cost the loss: criteria that are a loss predict it for any number of channels removed."""

from __future__ import annotations

import numpy as np

from stages.prune.ranking.members import Scores


def predicted_losses(scores: Scores) -> Scores:
    """Return the predicted loss by how many of a group's channels stay, from 0 to all; the lowest scores go first."""
    return np.append(np.cumsum(np.sort(scores))[::-1], 0.0)
