"""Define what a target reports without a clock: instructions, arena, estimates. Equal models give equal numbers."""

from __future__ import annotations

from pydantic import Field

from pipeline.records.values import Value
from stages.devices.measurement import OutputDigest


class Counts(Value):
    """Hold numbers by metric.

    Ratios use `main`; `spread` is the relative difference between two counts of one model that is not significant (0:
    they are equal); `estimated` numbers come from a model of the device. `left_out` lists the kinds of the operators
    whose cost the main number excludes, one per operator: numbers that exclude different ones can't be compared.
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
        """Return the digests of all outputs, in the model's order."""
        return tuple(output.sha256 for output in self.outputs)
