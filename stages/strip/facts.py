"""Define the facts of a stripped model."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class StripFacts(Facts):
    """List what was stripped from a model, a note each.

    `folded` are batch normalizations that were merged into the layer before them, `kept` those that could not, and why.
    """

    kind: Literal["strip-report"] = "strip-report"
    removed: tuple[str, ...]
    folded: tuple[str, ...]
    kept: tuple[str, ...]
