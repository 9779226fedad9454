"""Choose how ranges are derived by what it does to the outputs: `calibration: auto`.

Each method's file is made with ranges from a part of the calibration samples and judged on the others, since ranges
that are judged on their own samples look better the wider they are. The winner's ranges are then those of all samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.records.schemes import Quantization, Ranges
from pipeline.records.values import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS: tuple[Ranges, ...] = ("min_max", "percentile", "mse")  # of equal ones, the first is taken
HELD_OUT_EVERY = 4


class RangeChoice(Value):
    """Say which method was taken.

    `errors` are the squared errors at the outputs by method, before a closing softmax or sigmoid, relative to the
    outputs' power, on `samples` that were held out; empty if there were too few samples to hold any out.
    """

    method: Ranges
    errors: dict[Ranges, float]
    samples: int

    @property
    def said(self) -> str:
        """Return a sentence for the report."""
        if not self.errors:
            return f"calibration auto took {self.method}: of fewer than {HELD_OUT_EVERY} samples none can be held out"
        errors = ", ".join(f"{method} {error:.2e}" for method, error in self.errors.items())
        return (
            f"calibration auto took {self.method}: squared error relative to the outputs' power on {self.samples} "
            f"held-out samples: {errors}"
        )


Chose = Callable[[RangeChoice], None]  # hears what was taken


def unchosen(_choice: RangeChoice) -> None:
    """Ignore what was taken."""


def held_out(arrays: Mapping[str, NDArray[Any]]) -> tuple[list[int], list[int]]:
    """Return the places of samples to measure on and of those to judge by, a fourth, whatever their order.

    `arrays` are the samples (N, …) by input name. Both are in the order of the samples' digests.
    """
    digests = [hashlib.blake2b(digest_size=16) for _ in range(len(next(iter(arrays.values()))))]
    for name in sorted(arrays):
        for digest, sample in zip(digests, arrays[name], strict=True):
            digest.update(sample.tobytes())
    order = sorted(range(len(digests)), key=lambda place: digests[place].digest())
    judges = order[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    del order[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    return order, judges


def choose(
    how: Quantization,
    make: Callable[[Quantization], Sequence[NDArray[Any]]],
    wanted: Sequence[NDArray[Any]],
) -> RangeChoice:
    """Return the method whose outputs, given by `make` for each, are nearest to those `wanted` (N, …)."""
    if not wanted:
        return RangeChoice(method=METHODS[0], errors={}, samples=0)
    errors = {method: relative_error(wanted, make(by(how, method))) for method in METHODS}
    return RangeChoice(method=min(METHODS, key=errors.__getitem__), errors=errors, samples=len(wanted[0]))


def by(how: Quantization, method: Ranges) -> Quantization:
    """Return the same settings with another method."""
    return how.model_copy(update={"calibration": method})


def relative_error(wanted: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    """Return the squared error of outputs (N, …) relative to their power, on average over outputs."""
    import numpy as np

    shares = list(_shares(wanted, found))
    return float(np.mean(shares))


def _shares(wanted: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> Iterator[float]:
    import numpy as np

    for reference, actual in zip(wanted, found, strict=True):
        # In float64: rounding in float32 sums would depend on how many there are.
        power = float(np.square(reference, dtype=np.float64).sum())
        yield float(np.square(actual - reference, dtype=np.float64).sum()) / (power or 1.0)
