"""Measure what each channel of a network's tensors is like on samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.equalizing.draft import Array
from stages.keras.regression.running import Network
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import TfTensor


@dataclass(slots=True)
class Statistics:
    """Hold of each channel (C,) of a tensor the smallest and the largest value, and the mean square."""

    low: Array
    high: Array
    power: Array

    @property
    def reach(self) -> Array:
        """Return the largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def width(self, factor: Array | float = 1.0, offset: Array | float = 0.0) -> float:
        """Return how wide the range of all channels is, with zero, if they become (x - offset) / factor."""
        low, high = (self.low - offset) / factor, (self.high - offset) / factor
        return float(max(high.max(), 0.0) - min(low.min(), 0.0))

    def scale(self, factor: Array) -> None:
        """Multiply the tensor's channels by positive factors (C,)."""
        self.low, self.high, self.power = self.low * factor, self.high * factor, self.power * factor**2

    def shift(self, offset: Array) -> None:
        """Add offsets (C,) to the tensor's channels; the mean square is then an upper bound."""
        self.low, self.high = self.low + offset, self.high + offset


def statistics_of(
    network: Network, batches: Iterable[Sequence[NDArray[Any]]], keys: Collection[str] | None = None
) -> dict[str, Statistics]:
    """Return the statistics of tensors that the network computes over all batches of its inputs, by key.

    Of those at `keys`, or of all whose values are floating and have channels on their last axis.
    """
    tf = import_tensorflow()
    found: dict[str, Statistics] = {}
    counts: dict[str, int] = {}
    places = [place for place, call in enumerate(network.calls) if keys is None or call.makes[0] in keys]

    def hear(place: int, _given: TfTensor, made: TfTensor) -> None:
        key = network.calls[place].makes[0]
        wanted = isinstance(made, tf.Tensor) and made.dtype.is_floating and made.shape.rank > 1
        if not wanted or (keys is not None and key not in keys):
            return
        # numpy, sample by sample: TensorFlow takes three times as long to reduce all axes but the last.
        values = np.asarray(made).reshape(len(made), -1, made.shape[-1])
        low, high = (reduce(reduce(values, axis=0), axis=0).astype(np.float64) for reduce in (np.min, np.max))
        power = np.einsum("npc,npc->nc", values, values).sum(axis=0, dtype=np.float64)
        seen, counts[key] = found.get(key), counts.get(key, 0) + values.shape[0] * values.shape[1]
        if seen is None:
            found[key] = Statistics(low, high, power)
        else:
            found[key] = Statistics(np.minimum(seen.low, low), np.maximum(seen.high, high), seen.power + power)

    for batch in batches if places else ():
        network.run(range(places[-1] + 1), network.start(batch), hear=hear)
    return {key: Statistics(seen.low, seen.high, seen.power / counts[key]) for key, seen in found.items()}
