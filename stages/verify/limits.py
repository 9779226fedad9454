"""The tolerances of a scheme held against one row of figures."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

from pipeline.artifacts import ParityRow
from stages.parity import EQUAL_DB
from stages.verify.config import Bounds

REAL = "test"  # the set of inputs that come from the test split
MICRO = "test in TFLM"  # some of them, through the runtime of microcontrollers


@dataclass(frozen=True, slots=True)
class Violation:
    """What is beyond its bound, which setting says so, and from how many dB on a layer counts as agreeing."""

    said: str
    setting: str
    limit_db: float


def violation(row: ParityRow, bounds: Bounds, scale: float = 0.0) -> Violation | None:
    """The first bound that a row breaks, or None.

    `scale` is the largest absolute reference output on real inputs: where made-up ones give next to nothing (a
    normalization of a constant), differences are held against what the output is in use.
    """
    relative = row.max_abs_diff / max(row.reference_max_abs, scale, 1e-30)
    if bounds.max_diff is not None and relative > bounds.max_diff:
        said = f"the relative difference is {relative:.3g}, at most {bounds.max_diff:g} is allowed"
        return Violation(said, "max_diff", -20 * log10(bounds.max_diff))
    of_real = (
        ("cosine", row.cosine, "min_cosine"),
        ("signal-to-noise ratio (dB)", row.sqnr_db, "min_sqnr_db"),
        ("top-1 agreement", row.top1_agreement, "min_top1_agreement"),
    )
    of_made_up = (("cosine", row.cosine, "adversarial_min_cosine"),)
    for figure, found, setting in of_real if row.inputs in (REAL, MICRO) else of_made_up:
        bound = getattr(bounds, setting)
        if bound is not None and found is not None and found < bound:
            said = f"the {figure} is {found:.3g}, at least {bound:g} is allowed"
            return Violation(said, setting, _decibels_of(bounds))
    return None


def hint_of(scheme: str, violated: Violation) -> str:
    """What can be done about it."""
    setting = f"verify.tolerances.{scheme}.{violated.setting}"
    if scheme in ("float32", "float16"):
        return f"the file computes another function, or {setting} is too strict"
    return f"more or better calibration samples, a finer scheme, or {setting}"


def _decibels_of(bounds: Bounds) -> float:
    """A cosine c leaves the share 1 - c² of the power to noise; without one, noise of a tenth of the power."""
    if bounds.min_sqnr_db is not None:
        return bounds.min_sqnr_db
    cosine = max(bounds.min_cosine if bounds.min_cosine is not None else 0.95, 0.5)
    return -10 * log10(1 - cosine**2) if cosine < 1 else EQUAL_DB
