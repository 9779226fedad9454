"""Report what re-fitting did, layer by layer, as a value that is recorded."""

from __future__ import annotations

from typing import Literal

import rfc8785

from pipeline.records.values import Value
from stages.keras.regression.refit import LayerFit


class ReconstructionReport(Value):
    """Report the samples, the error of the network's outputs before and after, and each layer.

    `not_fitted` are layers that read fewer channels and are of a kind that is not fitted, with their kind.
    """

    schema_version: Literal[1] = 1
    samples: int
    held_out: int
    output_error_before: float
    output_error_after: float
    layers: tuple[LayerFit, ...]
    not_fitted: dict[str, str]

    def to_json(self) -> bytes:
        """Return canonical JSON: equal reports are equal bytes."""
        return rfc8785.dumps(self.model_dump(mode="json"))
