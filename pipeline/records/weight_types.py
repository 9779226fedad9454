"""How much of its weights an exported file stores in the type of its scheme: one that stores little did little."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.records.facts import CountsWeights
from pipeline.records.schemes import Scheme

LEAST_SHARE = 0.5  # of weights in the type of a scheme: below that the scheme did little
NARROW: Mapping[Scheme, tuple[str, ...]] = {
    "float16": ("float16",),
    **dict.fromkeys(("dynamic", "weight_only", "int8", "int16x8"), ("int8", "uint8")),
}


def narrow_share(facts: CountsWeights) -> float | None:
    """Which share of the weights a file stores in the type of its scheme; None where the scheme has none."""
    total, types = sum(facts.weights.values()), NARROW.get(facts.scheme)
    return sum(facts.weights.get(name, 0) for name in types) / total if types and total else None
