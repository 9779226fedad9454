"""Round kernels to the points that 8 bits can hold: nearest, or so that a layer's output changes least.

A point is a whole number of steps; an output channel's step is its largest weight's share of `limit` steps, so a
quantizer that takes the same steps keeps every point as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.keras.regression.linear_layers import Matrices

CHUNK = 128  # unknowns whose influence on later ones is summed up by one product


@dataclass(frozen=True, slots=True)
class Grid:
    """Describe a format's weights: whole numbers from -`limit` to `limit` of a step for each channel, or for all."""

    limit: int
    per_channel: bool = True

    def steps(self, matrices: Matrices) -> Matrices:
        """Return the steps (G, 1, O) for the weights (G, U, O); 1 for a channel of zeros."""
        axes = 1 if self.per_channel else None
        largest = np.abs(matrices).max(axis=axes, keepdims=True, initial=0)
        steps = np.where(largest > 0, largest / self.limit, 1.0)
        return np.broadcast_to(steps, (len(matrices), 1, matrices.shape[2]))

    def nearest(self, weights: Matrices, steps: Matrices) -> Matrices:
        """Return the points nearest to `weights`."""
        return np.asarray(np.clip(np.rint(weights / steps), -self.limit, self.limit) * steps)

    def ends(self, points: Matrices, steps: Matrices) -> NDArray[np.bool_]:
        """Return which points have the largest number of steps: without them a channel would get another step."""
        return np.asarray(np.abs(np.rint(points / steps)) >= self.limit)

    def fed_back(self, wanted: Matrices, gram: Matrices, points: Matrices, steps: Matrices) -> Matrices:
        """Return points (G, U, O) whose outputs are near those of the weights `wanted`, where `points` are the nearest.

        The squared error is dᵀ·H·d, d the difference and H `gram` (G, U, U), positive definite. One unknown after the
        other is rounded to what is best for the sum given those before it, the ones with most influence first: optimal
        brain compression (Frantar et al., 2022, arXiv:2208.11580) in the fixed order of GPTQ (Frantar et al., 2022,
        arXiv:2210.17323), by one Cholesky factor of H instead of one of its inverse. The ends of `points` stay, and so
        does a channel for which the nearest points have the smaller error.
        """
        order = np.argsort(-np.einsum("guu->gu", gram), axis=1, kind="stable")
        factor = _upper(np.take_along_axis(np.take_along_axis(gram, order[:, :, None], 1), order[:, None], 2))
        aims, first = (np.take_along_axis(values, order[:, :, None], 1) for values in (wanted, points))
        ends, off = self.ends(first, steps), np.zeros_like(aims)
        for start in range(0, aims.shape[1], CHUNK):
            stop = min(start + CHUNK, aims.shape[1])
            pulled = factor[:, :start, start:stop].swapaxes(1, 2) @ off[:, :start]
            for place in range(start, stop):
                near = factor[:, None, start:place, place] @ off[:, start:place]
                pull = (pulled[:, place - start] + near[:, 0]) / factor[:, place, place, None]
                point = self.nearest(aims[:, place] + pull, steps[:, 0])
                off[:, place] = aims[:, place] - np.where(ends[:, place], first[:, place], point)
        found = np.empty_like(aims)
        np.put_along_axis(found, order[:, :, None], aims - off, 1)
        better = _squared(wanted - found, gram) < _squared(wanted - points, gram)
        return np.where(better, found, points)


def _upper(gram: Matrices) -> Matrices:
    """Return M, upper triangular, with M·Mᵀ = `gram`."""
    return np.asarray(np.linalg.cholesky(gram[:, ::-1, ::-1])[:, ::-1, ::-1])


def _squared(difference: Matrices, gram: Matrices) -> Matrices:
    """Return (G, 1, O): dᵀ·H·d of each channel."""
    return np.asarray((difference * (gram @ difference)).sum(axis=1, keepdims=True))
