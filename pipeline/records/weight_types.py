"""Compute how much of its weights a file stores in its scheme's type: a small share means little was quantized."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.records.facts import CountsWeights
from pipeline.records.schemes import FOUR_BIT, Scheme

LEAST_SHARE = 0.5  # of weights in the type of a scheme: below that the scheme had little effect
NARROW: Mapping[Scheme, tuple[str, ...]] = {
    "float16": ("float16",),
    **dict.fromkeys(("dynamic", "weight_only", "int8", "int16x8"), ("int8", "uint8")),
    **dict.fromkeys(FOUR_BIT, ("int4",)),
}


def narrow_share(facts: CountsWeights) -> float | None:
    """Return the share of weights that a file stores in the type of its scheme; None if the scheme has none."""
    total, types = sum(facts.weights.values()), NARROW.get(facts.scheme)
    return sum(facts.weights.get(name, 0) for name in types) / total if types and total else None
