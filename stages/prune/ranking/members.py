"""Define what criteria give: members, the values of one layer for channels of a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.keras.channels.labels import Ids

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """Hold one layer's values: `values[i]` is about channel `channels[i]`, which may be another group's."""

    channels: Ids
    values: Scores
