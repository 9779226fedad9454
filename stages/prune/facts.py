"""Define the facts of pruning: what was removed, and what a sensitivity scan covered."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class PruneFacts(Facts):
    """Describe what was pruned. `equivalence_error` is the largest relative difference from the masked original."""

    kind: Literal["prune-report"] = "prune-report"
    groups: int
    frozen_groups: int
    channels_before: int
    channels_after: int
    equivalence_error: float


class SensitivityFacts(Facts):
    """Describe a scan of accuracy over the ratio, group by group, on some samples."""

    kind: Literal["sensitivity-report"] = "sensitivity-report"
    groups: int
    points: int
    samples: int
