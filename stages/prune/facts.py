"""Define the facts of pruning: what was ranked and removed, and what a sensitivity scan covered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.artifacts import Facts


class PruneFacts(Facts):
    """Describe what was pruned. `equivalence_error` is the largest relative difference from the masked original.

    `notes` are sentences about it, shown below the table of the run.
    """

    kind: Literal["prune-report"] = "prune-report"
    groups: int
    frozen_groups: int
    channels_before: int
    channels_after: int
    equivalence_error: float
    # Left out where there are none, so that records from before have the digests and seals that they had.
    notes: tuple[str, ...] = Field((), exclude_if=lambda notes: not notes)


class RankingFacts(Facts):
    """Describe a ranking: of how many groups of channels, by how many samples."""

    kind: Literal["ranking-report"] = "ranking-report"
    groups: int
    unranked_groups: int
    samples: int


class WeighingFacts(Facts):
    """Describe one search for all targets: how many distributions it tried, and how many targets are foreseen."""

    kind: Literal["weighing-report"] = "weighing-report"
    tried: int
    foreseen: int


class SensitivityFacts(Facts):
    """Describe a scan of accuracy over the ratio, group by group, on some samples."""

    kind: Literal["sensitivity-report"] = "sensitivity-report"
    groups: int
    points: int
    samples: int
