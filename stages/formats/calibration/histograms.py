"""Count a tensor's values batch by batch, so that the result does not depend on the order of the batches.

A bin's width is a power of two, and zero is the border of two bins. When a larger value comes, pairs of bins become one
bin of twice the width: exactly the counts that the wider bins would have had from the start. So one pass is enough, the
memory is bounded, and histograms of parts of the samples add up to that of all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pipeline.errors import PreconditionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTH = 12
HALF = 2**DEPTH  # bins on each side of zero; the largest magnitude lies in the outer half of them
CHUNK = 2**16  # values at once: what fits a processor's cache is counted in a third of the time
LEAST_EXPONENT = -100  # of the bound of all bins: smaller values are zeros in float32's arithmetic


class Histogram:
    """Hold counts (2 · HALF,) of the values in bins between `edges` (2 · HALF + 1,), and the extremes."""

    def __init__(self) -> None:
        import numpy as np

        self.low, self.high = math.inf, -math.inf
        self.counts: NDArray[Any] = np.zeros(2 * HALF, np.int64)
        self._exponent = LEAST_EXPONENT  # every magnitude is smaller than two to this

    @property
    def width(self) -> float:
        """Return the width of a bin."""
        return 2.0 ** (self._exponent - DEPTH)

    @property
    def edges(self) -> NDArray[Any]:
        import numpy as np

        return np.arange(-HALF, HALF + 1) * self.width

    def add(self, values: NDArray[Any], share: float = 1.0) -> None:
        """Count float `values` of any shape; PreconditionError if one is NaN or infinite.

        Only the first `share` counts of a batch that was filled up with samples that were there before.
        """
        import numpy as np

        if share < 1 and values.ndim:
            values = values[: round(len(values) * share)]
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        limit = max(-low, high)
        if not math.isfinite(limit):
            raise PreconditionError(
                "a tensor holds NaN or infinity on calibration samples",
                where="data.calibration",
                hint="are these samples preprocessed as in training?",
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(math.frexp(limit)[1])
        flat, scale = values.ravel(), np.float32(1 / self.width)
        for start in range(0, flat.size, CHUNK):
            # Multiplied by a power of two, so that nothing is rounded before the floor.
            places = np.floor(flat[start : start + CHUNK] * scale)
            places += HALF
            self.counts += np.bincount(places.astype(np.intp), minlength=2 * HALF)

    def __add__(self, other: Histogram) -> Histogram:
        """Return the histogram of the values of both."""
        both = Histogram()
        for part in (self, other):
            both._take(part)
        return both

    def _take(self, part: Histogram) -> None:
        import numpy as np

        self._widen(part._exponent)
        self.low, self.high = min(self.low, part.low), max(self.high, part.high)
        self.counts += _merged(part.counts, self._exponent - part._exponent) if part.counts.any() else np.int64(0)

    def _widen(self, exponent: int) -> None:
        if exponent > self._exponent:
            self.counts = _merged(self.counts, exponent - self._exponent)
            self._exponent = exponent


def _merged(counts: NDArray[Any], doublings: int) -> NDArray[Any]:
    """Return the counts in bins that are wider by two to the power of `doublings`."""
    import numpy as np

    # The bins next to zero take all of their side, however much wider they become.
    merged = counts.reshape(-1, 2 ** min(doublings, DEPTH)).sum(axis=1)
    room = HALF - len(merged) // 2
    return np.pad(merged, (room, room))
