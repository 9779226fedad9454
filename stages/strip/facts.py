"""Facts of a stripped model."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class StripFacts(Facts):
    """What a model was stripped of, a note each.

    `folded` are batch normalisations that went into the layer before them, `kept` those that could not, and why.
    """

    kind: Literal["strip-report"] = "strip-report"
    removed: tuple[str, ...]
    folded: tuple[str, ...]
    kept: tuple[str, ...]
