"""Facts of pruning: what went, and what a sensitivity scan looked at."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class PruneFacts(Facts):
    """What pruning took away. `equivalence_error` is the largest relative difference from the masked original."""

    kind: Literal["prune-report"] = "prune-report"
    groups: int
    frozen_groups: int
    channels_before: int
    channels_after: int
    equivalence_error: float


class SensitivityFacts(Facts):
    """A scan of accuracy against ratio, group by group, on some samples."""

    kind: Literal["sensitivity-report"] = "sensitivity-report"
    groups: int
    points: int
    samples: int
