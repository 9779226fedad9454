"""Hold how groups' losses were weighed by trial, and what targets lose by that, as a value that is recorded."""

from __future__ import annotations

from typing import Literal

import rfc8785

from pipeline.records.values import Value
from stages.prune.choosing.cost import Measure
from stages.prune.report import SearchReport

SHARES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # that are foreseen where they can be reached


class ForeseenTarget(Value):
    """Foresee the network with a share `left` of the source: `reached` is what its channels cost, as a share.

    `output_error` is that of its outputs on held-out samples, each layer re-fitted alone, relative to the variance of
    the source's; `agreement` the share of these samples that get the source's class, None where outputs are no classes.
    """

    left: float
    reached: float
    output_error: float
    agreement: float | None


class WeighingReport(Value):
    """Hold one search for all targets of a measure: its best factors, and what they lead to, least left first.

    `search` is None if there was no choice between groups.
    """

    schema_version: Literal[1] = 1
    measure: Measure
    search: SearchReport | None
    targets: tuple[ForeseenTarget, ...]

    def to_json(self) -> bytes:
        """Return canonical JSON: equal reports are equal bytes, and numbers are read back as they were."""
        return rfc8785.dumps(self.model_dump(mode="json"))
