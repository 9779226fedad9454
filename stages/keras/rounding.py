"""Detect outputs that are rounding noise: they move when only the last bits of the inputs do.

A normalization of a constant divides rounding errors by its epsilon; a sum of large terms that cancel leaves little
else. Two exact implementations may differ there arbitrarily, and neither is wrong. So a difference is compared with the
model's own response to changes in the last bits of its inputs: a difference of that size is not significant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stages.keras.inputs import as_arrays
from stages.keras.normal_form import relative_difference

LAST_BITS = 2.0**-22  # of an input's scale: two units in the last place of float32
DRAWS = 2
FLOAT32 = 1e-6  # smaller differences are always treated as rounding
ROOM = 10.0  # sums in another order round by several last bits, a nudge by one

Run = Callable[[list[Any]], Any]  # inputs (N, …) to an output, or several


def difference_beyond_rounding(
    run: Run, inputs: Sequence[Any], expected: Any, actual: Any, tolerance: float = FLOAT32
) -> float:
    """Return `relative_difference` of `expected`, which `run` gives on `inputs`, and `actual`, without mere rounding.

    Differences up to `tolerance` are returned unchanged, and so is NaN; `run` is called again only for larger ones.
    """
    import numpy as np

    difference = relative_difference(expected, actual)
    # NaN is returned as it is: no rounding explains it.
    if not difference > tolerance:
        return difference
    noise = rounding_noise(run, inputs, expected)
    pairs = zip(_arrays(expected), _arrays(actual), noise, strict=True)
    # What noise explains counts as equal, everything else with its whole difference: a large error is not made smaller.
    nearer = [np.where(np.abs(a - b) <= ROOM * _beside(a, moves), a, b) for a, b, moves in pairs]
    return relative_difference(_arrays(expected), nearer)


def rounding_noise(run: Run, inputs: Sequence[Any], expected: Any, scales: Sequence[float] | None = None) -> list[Any]:
    """Return for each output how far each sample's numbers move at most (N,) when the inputs' last bits change.

    `scales` are the largest absolute values of the inputs in use, if `inputs` themselves don't tell. Integers have no
    last bits: nothing moves.
    """
    import numpy as np

    # Seeded: a check on the border must not pass in one run and fail in the next.
    rng, before = np.random.default_rng(0), _arrays(expected)
    wide = scales or [float(np.abs(values).max(initial=0)) for values in inputs]
    noise = [np.zeros(len(values)) for values in before]
    for _ in range(DRAWS):
        moved = _arrays(run([_nudged(values, wide[index], rng) for index, values in enumerate(inputs)]))
        for index, (a, b) in enumerate(zip(before, moved, strict=True)):
            noise[index] = np.maximum(noise[index], np.abs(a - b).reshape(len(a), -1).max(axis=1))
    return noise


def _nudged(values: Any, scale: float, rng: Any) -> Any:
    import numpy as np

    array = np.asarray(values)
    if array.dtype.kind != "f":
        return values
    # Signs at random: values that all move the same way would hardly show behind a normalization.
    return (array + LAST_BITS * scale * rng.choice((-1.0, 1.0), array.shape)).astype(array.dtype)


def _beside(values: Any, per_sample: Any) -> Any:
    """Reshape one number per sample (N,) to broadcast with the samples' values (N, …)."""
    return per_sample.reshape(len(values), *(1,) * (values.ndim - 1))


def _arrays(outputs: Any) -> list[Any]:
    import numpy as np

    return [np.asarray(values, np.float64) for values in as_arrays(outputs)]
