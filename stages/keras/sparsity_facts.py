"""Facts of a Keras model's zeros."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class SparsityFacts(Facts):
    """Single weights that are zero: `layers` has the share of zeros of each layer's kernels.

    `gzip_bytes` is what gzip makes of all weights, `weight_bytes` what they take as they are.
    """

    kind: Literal["sparsity-report"] = "sparsity-report"
    weights: int
    zeros: int
    layers: dict[str, float]
    weight_bytes: int
    gzip_bytes: int
