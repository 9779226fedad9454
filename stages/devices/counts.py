"""What a target says of a model without a clock: instructions, arena, estimates. Equal models give equal numbers."""

from __future__ import annotations

from pydantic import Field

from pipeline.records.values import Value
from stages.devices.measurement import OutputDigest


class Counts(Value):
    """Numbers by metric.

    `main` is the one that ratios are made of; `spread` the relative difference of two counts of one model that means
    nothing (0: they are equal); `estimated` numbers come from a model of the device. `left_out` are the kinds of the
    operators whose cost the main number does not hold, one an operator: numbers that leave out others don't compare.
    """

    target: str
    runtime: str
    metrics: dict[str, float]
    main: str | None
    spread: float = Field(ge=0)
    estimated: bool
    outputs: tuple[OutputDigest, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def output_digests(self) -> tuple[str, ...]:
        """The digests of all outputs, in the model's order."""
        return tuple(output.sha256 for output in self.outputs)
