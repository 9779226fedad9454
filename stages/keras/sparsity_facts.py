"""Define the facts of a Keras model's zeros."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts


class SparsityFacts(Facts):
    """Count individual zero weights: `layers` has the share of zeros of each layer's kernels.

    `gzip_bytes` is the size of all weights under gzip, `weight_bytes` uncompressed.
    """

    kind: Literal["sparsity-report"] = "sparsity-report"
    weights: int
    zeros: int
    layers: dict[str, float]
    weight_bytes: int
    gzip_bytes: int
