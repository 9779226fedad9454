"""Read samples in batches, of which one sample in five is held out: it decides whether a fit is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.regression.running import Network

HELD_OUT = 5  # one sample in so many decides whether a fit is kept, and is not fitted
FEWEST_SAMPLES = 2 * HELD_OUT  # two of them are held out
BATCH_BYTES = 128 * 2**20  # of a batch's largest tensor
MOST_SAMPLES = 64  # in a batch

Take = Callable[[NDArray[np.int64]], list[NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Samples:
    """Give samples in batches of `size`; `take` returns an array for each input, of the samples at these places."""

    order: NDArray[np.int64]
    size: int
    take: Take

    @property
    def batches(self) -> int:
        return -(-len(self.order) // self.size)

    @property
    def held_out(self) -> NDArray[np.int64]:
        """Return the places of the samples that are held out."""
        return self.order[HELD_OUT - 1 :: HELD_OUT]

    @property
    def held_out_batches(self) -> int:
        return -(-len(self.held_out) // self.size)

    @property
    def fitted_count(self) -> int:
        """Return how many samples are fitted."""
        return len(self.order) - len(self.held_out)

    def fitted(self, batch: int) -> NDArray[np.bool_]:
        """Return for each sample of a batch whether it is fitted; the others are held out."""
        return np.asarray(self._numbers(batch) % HELD_OUT != HELD_OUT - 1)

    def read(self, batch: int) -> list[NDArray[Any]]:
        """Return all samples of a batch."""
        return self.take(self.order[self._numbers(batch)])

    def read_held_out(self, batch: int) -> list[NDArray[Any]]:
        """Return a batch of the samples that are held out, of `held_out_batches`."""
        return self.take(self.held_out[batch * self.size : (batch + 1) * self.size])

    def _numbers(self, batch: int) -> NDArray[np.int64]:
        return np.arange(batch * self.size, min(len(self.order), (batch + 1) * self.size))


def batched(network: Network, order: NDArray[np.int64], take: Take) -> Samples:
    """Return the samples in batches so small that a tensor of the network takes little memory."""
    largest = 1

    def hear(_place: int, _given: object, made: Any) -> None:
        nonlocal largest
        largest = max(largest, (made.shape.num_elements() or 1) * made.dtype.size)  # of a ragged tensor: not known

    network.run(range(len(network.calls)), network.start(take(order[:1])), hear=hear)
    return Samples(order, max(1, min(MOST_SAMPLES, BATCH_BYTES // largest)), take)
