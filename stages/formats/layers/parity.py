"""Measure how far two models' outputs differ: float arrays (N, …) of equal shapes, the reference first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLEAR = 0.1  # of the largest output: a margin that no rounding can overturn
EQUAL_DB = 200.0  # represents equal outputs, whose ratio is infinite; float32's own rounding is at about 144


def max_abs_diff(reference: NDArray[Any], actual: NDArray[Any]) -> float:
    """Return the largest absolute difference of any output."""
    return float(_sample_diffs(reference, actual).max())


def mean_abs_diff(reference: NDArray[Any], actual: NDArray[Any]) -> float:
    """Return the mean absolute difference over all outputs."""
    import numpy as np

    return float(np.abs(_rows(actual) - _rows(reference)).mean())


def sqnr_db(reference: NDArray[Any], actual: NDArray[Any]) -> float:
    """Return the signal-to-quantization-noise ratio in dB: 10 log10 of the reference's power over the difference's.

    Computed over all samples and outputs together, clipped to ±`EQUAL_DB`, the value for equal outputs.
    """
    import numpy as np

    a = _rows(reference)
    return float(decibels(np.square(a).sum(), np.square(_rows(actual) - a).sum()))


def decibels(signal: NDArray[Any] | float, noise: NDArray[Any] | float) -> NDArray[Any]:
    """Return 10 log10(signal / noise) of powers (arrays or numbers), within ±`EQUAL_DB`."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        # A difference of logarithms: the quotient of two powers overflows where the noise is tiny.
        ratio = 10 * (np.log10(signal) - np.log10(noise))
    # Asked of the noise and not of the ratio: without signal, 0 / 0 would be NaN, and equal outputs are equal.
    return np.where(np.asarray(noise) == 0, EQUAL_DB, np.clip(ratio, -EQUAL_DB, EQUAL_DB))


def cosine(reference: NDArray[Any], actual: NDArray[Any]) -> float:
    """Return the mean over samples of the cosine between the two output vectors; 1 for two zeros, 0 for one zero.

    For single-number outputs, which have no direction but their sign, all samples form one vector.
    """
    import numpy as np

    a, b = _rows(reference), _rows(actual)
    if a.shape[1] == 1:
        a, b = a.T, b.T
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero: Any = ~a.any(axis=1) & ~b.any(axis=1)
    products = np.einsum("ij,ij->i", a, b)
    cosines = np.divide(products, lengths, out=both_zero.astype(np.float64), where=lengths > 0)
    return float(np.clip(cosines, -1, 1).mean())


def top_agreement(reference: NDArray[Any], actual: NDArray[Any], k: int = 1) -> float:
    """Return the share of the reference's `k` best classes among the other's `k` best, of outputs (N, classes).

    With `k` of 1: the share of samples for which both predict the same class. Of equal outputs the first wins.
    """
    import numpy as np

    # Stable, so that equal outputs keep the order of their classes in both: an unstable sort would count them as
    # disagreement.
    a, b = (np.argsort(-_rows(outputs), axis=1, kind="stable")[:, :k] for outputs in (reference, actual))
    return float((a[:, :, None] == b[:, None, :]).any(axis=2).mean())


def variation_db(reference: NDArray[Any], actual: NDArray[Any]) -> float | None:
    """Return 10 log10 of the variance of the reference across samples over the power of the difference.

    This is `sqnr_db` without the part common to all samples, which tells nothing about any of them. None if nothing
    varies.
    """
    import numpy as np

    a = _rows(reference)
    varies = np.square(a - a.mean(axis=0)).sum()
    return float(decibels(varies, np.square(_rows(actual) - a).sum())) if varies > 0 else None


def decided_agreement(reference: NDArray[Any], actual: NDArray[Any]) -> tuple[int, int]:
    """Count, for outputs (N, classes), samples that the reference decides clearly, and those where both agree.

    Clearly means by a tenth of its largest output or more: between nearer classes, rounding decides.
    """
    import numpy as np

    a, b = _rows(reference), _rows(actual)
    best = np.sort(a, axis=1)
    clear = best[:, -1] - best[:, -2] >= CLEAR * np.abs(a).max()
    return int(clear.sum()), int((a.argmax(axis=1) == b.argmax(axis=1))[clear].sum())


def worst_sample(reference: NDArray[Any], actual: NDArray[Any]) -> int:
    """Return the index of the sample with the largest absolute difference."""
    return int(_sample_diffs(reference, actual).argmax())


def _sample_diffs(reference: NDArray[Any], actual: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    largest: NDArray[Any] = np.abs(_rows(actual) - _rows(reference)).max(axis=1)
    return largest


def _rows(outputs: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    # In float64: a float32 sum over many samples rounds by more than the differences that are looked for.
    return np.reshape(outputs, (len(outputs), -1)).astype(np.float64)
