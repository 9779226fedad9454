"""Compare one row of figures with the tolerances of a scheme."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

from pipeline.records.facts import ParityRow
from stages.formats.layers.parity import EQUAL_DB
from stages.samples.proportions import wilson_interval
from stages.verify.config import Bounds

if TYPE_CHECKING:
    from stages.verify.causes import Cause

REAL = "test"  # the set of inputs that come from the test split
FEW = 16  # too few samples to tell how an output varies
SIMULATED = f"{REAL} in "  # some of them, through a simulator of the device: `test in TFLM`


def is_real(inputs: str) -> bool:
    """Return whether a set of inputs is from the test split, or synthetic."""
    return inputs == REAL or inputs.startswith(SIMULATED)


@dataclass(frozen=True, slots=True)
class Violation:
    """Say what is beyond its bound, which setting bounds it, and from how many dB on a layer counts as agreeing."""

    said: str
    setting: str
    limit_db: float


def violation(row: ParityRow, bounds: Bounds, scale: float = 0.0) -> Violation | None:
    """Return the first bound that a row breaks, or None.

    `scale` is the largest absolute reference output on real inputs: if synthetic ones give next to nothing (a
    normalization of a constant), differences are compared with the output's usual scale.
    """
    relative = row.max_abs_diff / max(row.reference_max_abs, scale, 1e-30)
    if bounds.max_diff is not None and relative > bounds.max_diff:
        text = f"the relative difference is {relative:.3g}, at most {bounds.max_diff:g} is allowed"
        return Violation(text, "max_diff", -20 * log10(bounds.max_diff))
    real = is_real(row.inputs)
    of_real = (("cosine", row.cosine, "min_cosine"), ("signal-to-noise ratio (dB)", row.sqnr_db, "min_sqnr_db"))
    for figure, value, setting in of_real if real else (("cosine", row.cosine, "adversarial_min_cosine"),):
        bound = getattr(bounds, setting)
        if bound is not None and value < bound:
            text = f"the {figure} is {value:.3g}, at least {bound:g} is allowed"
            return Violation(text, setting, _decibels_of(bounds))
    for share in shares(row, bounds) if real else ():
        if share.interval[1] < share.bound:
            return Violation(f"{share.said}, at least {share.bound:g} is allowed", share.setting, _decibels_of(bounds))
    return None


@dataclass(frozen=True, slots=True)
class Share:
    """Hold a bounded share of samples, with its 95 % interval: it fails only if all of that is below the bound."""

    said: str
    setting: str
    bound: float
    interval: tuple[float, float]
    point: float

    @property
    def undecided(self) -> bool:
        """Return whether it is below the bound, and may be so by chance."""
        return self.point < self.bound <= self.interval[1]


def shares(row: ParityRow, bounds: Bounds) -> list[Share]:
    """Return the shares of a row that are bounded and known."""
    agreed = None if row.top1_agreement is None else round(row.top1_agreement * row.samples)
    counted = (
        ("top-1 agreement", agreed, row.samples, "min_top1_agreement"),
        ("agreement on samples that Keras decides clearly", row.decided_agreed, row.decided, "min_decided_agreement"),
    )
    bounded = []
    for figure, hits, samples, setting in counted:
        bound = getattr(bounds, setting)
        if bound is not None and hits is not None and samples:
            low, high = wilson_interval(hits, samples)
            text = f"the {figure} is {hits / samples:.3g} [{low:.3g}, {high:.3g}] ({hits} of {samples})"
            bounded.append(Share(text, setting, bound, (low, high), hits / samples))
    return bounded


def doubts(row: ParityRow, bounds: Bounds) -> list[str]:
    """Return what a row leaves open: shares below their bounds, perhaps by chance, and errors like the variation."""
    if row.inputs != REAL:
        return []
    notes = [
        f"output {row.output!r}: {share.said}: too few to tell" for share in shares(row, bounds) if share.undecided
    ]
    bound = bounds.min_sqnr_db
    if bound is not None and row.variation_db is not None and row.samples >= FEW and row.variation_db < bound:
        part = 10 ** (-row.variation_db / 20)
        notes.append(
            f"the file is off by {part:.0%} of what output {row.output!r} of Keras differs by from sample to sample "
            f"({row.variation_db:.0f} dB): it does not tell samples apart as Keras does"
        )
    return notes


def hint_of(scheme: str, setting: str, cause: Cause | None) -> str:
    """Return what can be done about it: what follows from the cause, and the `setting` that bounds it."""
    if scheme in ("float32", "float16"):
        return f"the file computes another function, or {setting} is too strict"
    if cause is not None:
        return f"{cause.said}: {cause.advice}; or {setting}"
    finer = "a finer scheme" if scheme in ("int16x8", "weight_only") else "a finer scheme (int16x8, weight_only)"
    better = "calibration: auto and rounding: adaptive, " if scheme == "int8" else ""
    return f"no range and no constant explains it: {better}{finer}, keep_float for the layers that differ, or {setting}"


def _decibels_of(bounds: Bounds) -> float:
    """Convert a cosine bound to dB: c leaves 1 - c² of the power to noise; without one, a tenth of the power."""
    if bounds.min_sqnr_db is not None:
        return bounds.min_sqnr_db
    cosine = max(bounds.min_cosine if bounds.min_cosine is not None else 0.95, 0.5)
    return -10 * log10(1 - cosine**2) if cosine < 1 else EQUAL_DB
