"""Choose a tensor's range from the histogram of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.records.schemes import Quantization
from stages.formats.calibration.histograms import Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERCENTILE = 99.999  # of all values if the recipe does not say; ONNX Runtime's default
STEPS = 255  # between the smallest and the largest of 8 bits
LIMITS_TRIED = 256  # on each side of zero, for the least squared error

Limits = tuple[float, float]


def limits(seen: Histogram, how: Quantization) -> Limits:
    """Return the smallest and the largest number of a tensor's range by `how.calibration`.

    A range of nothing, as percentiles give where nearly all values are zeros, would lose all others: such a tensor
    keeps its extremes.
    """
    match how.calibration:
        case "percentile":
            low, high = central_share(seen, PERCENTILE if how.percentile is None else how.percentile)
        case "mse":
            low, high = least_square_error(seen.counts, seen.edges, seen.low, seen.high)
        case _:
            return seen.low, seen.high
    return (low, high) if max(-low, high) > seen.width else (seen.low, seen.high)


def central_share(seen: Histogram, percent: float) -> Limits:
    """Return the limits of the central `percent` of all values, as many cut off below as above; exact to a bin."""
    import numpy as np

    up_to = np.concatenate([[0], np.cumsum(seen.counts)])
    cut = (1 - percent / 100) / 2 * up_to[-1]
    first = int(np.searchsorted(up_to, cut, "right")) - 1
    last = int(np.searchsorted(up_to, up_to[-1] - cut, "left")) - 1
    low = seen.edges[first] + seen.width * (cut - up_to[first]) / seen.counts[first]
    high = seen.edges[last] + seen.width * (up_to[-1] - cut - up_to[last]) / seen.counts[last]
    return max(float(low), seen.low), min(float(high), seen.high)


def least_square_error(counts: NDArray[Any], edges: NDArray[Any], low: float, high: float) -> Limits:
    """Return the range whose 8 bits lose least of a histogram, by squared error.

    `counts` (N,) of the values between `edges` (N + 1,), of which `low` and `high` are the extremes. What lies outside
    is clipped to the range, what lies inside is rounded, on average by a twelfth of the squared step (Choukroun et al.,
    "Low-bit Quantization of Neural Networks for Efficient Inference", 2019). Zero is a step of every range, and values
    next to it, most of a ReLU's output, are not rounded.
    """
    import numpy as np

    middles, counts = (edges[:-1] + edges[1:]).astype(np.float64) / 2, counts.astype(np.float64)
    lows, highs = (np.linspace(0.0, limit, LIMITS_TRIED) for limit in (min(low, 0), max(high, 0)))
    cut = _cut(highs, middles, counts) + _cut(-lows, -middles[::-1], counts[::-1])[:, None]
    # Values within one bin around zero: the histogram cannot tell exact zeros from them.
    width = edges[-1] - edges[-2]
    up_to = np.cumsum(np.concatenate([[0.0], np.where(np.abs(middles) < width, 0.0, counts)]))
    inside = up_to[np.searchsorted(middles, highs, "right")] - up_to[np.searchsorted(middles, lows)][:, None]
    error = cut + inside * ((highs - lows[:, None]) / STEPS) ** 2 / 12
    least, greatest = np.unravel_index(np.argmin(error), error.shape)
    return float(lows[least]), float(highs[greatest])


def _cut(limits: NDArray[Any], middles: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    """Return the summed squared distance from each of `limits` to what lies beyond it; `middles` ascend."""
    import numpy as np

    powers = np.stack([counts, counts * middles, counts * middles**2])
    beyond = np.concatenate([np.cumsum(powers[:, ::-1], axis=1)[:, ::-1], np.zeros((3, 1))], axis=1)
    number, first, second = beyond[:, np.searchsorted(middles, limits, "right")]
    # Expanded squares: differences of large sums come out slightly below zero.
    summed: NDArray[Any] = np.maximum(second - 2 * limits * first + limits**2 * number, 0.0)
    return summed
