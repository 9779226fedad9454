"""Fit a closing dense layer to the probabilities that the source gives, starting from its least squares.

Least squares weighs an error of a class that nobody would choose like one between the two that compete. What counts is
the divergence KL(source ‖ fitted) of the probabilities: convex in the layer's weights, and minimized by L-BFGS, with a
penalty on the change. The source's probabilities take the place of labels (Hinton et al., 2015, arXiv:1503.02531).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stages.keras.regression.normal_equations import Array

SAMPLES_FOR_EACH = 4  # fitted samples for each weight of an output: of fewer only the ones at hand are learned
MOST_PRODUCTS = 500_000_000  # samples · unknowns · outputs: what is computed about a hundred times takes seconds
FEWEST_OUTPUTS = 16  # counted for each: so the products limit memory as well, to 250 MB of rows
PENALTIES = (1e-3, 1e-2, 1e-1)  # of the squared change that a weight makes to the sum; held-out samples choose
STEPS = 100
TINY = 1e-12  # of a probability, before its logarithm


@dataclass(frozen=True, slots=True)
class Fitted:
    """Hold the weights (U, O) and the offset (O,), with the held-out divergence (nats) before and with them."""

    weights: Array
    offset: Array
    divergence_before: float
    divergence_after: float


@dataclass(slots=True)
class Probabilities:
    """Collect what the layer reads and what sums it has in the source; `squashing` is softmax or sigmoid."""

    squashing: str
    _rows: list[NDArray[np.float32]] = field(default_factory=list)
    _sums: list[NDArray[np.float32]] = field(default_factory=list)
    _fitted: list[NDArray[np.bool_]] = field(default_factory=list)

    @classmethod
    def of(cls, squashing: str, shape: tuple[int, int, int], samples: int) -> Probabilities | None:
        """Return one for a layer of this shape (G, U, O), of which so many samples are fitted.

        None if they are too few, or if it would compute too long.
        """
        _, unknowns, outputs = shape
        enough, products = samples >= SAMPLES_FOR_EACH * unknowns, samples * unknowns * max(outputs, FEWEST_OUTPUTS)
        return cls(squashing) if enough and products <= MOST_PRODUCTS else None

    def add(self, rows: Array, sums: Array, fitted: NDArray[np.bool_]) -> None:
        """Add n rows (n, U) with the source's sums (n, O); `fitted` marks those that are not held out."""
        self._rows.append(rows.astype(np.float32))
        self._sums.append(sums.astype(np.float32))
        self._fitted.append(fitted)

    def fit(self, weights: Array, offset: Array, *, with_offset: bool) -> Fitted | None:
        """Return what diverges least on held-out samples; None if that is what the layer has.

        Without `with_offset` the offset stays as it is.
        """
        from scipy.optimize import minimize

        fitted = np.concatenate(self._fitted)
        rows, sums = (np.concatenate(parts).astype(np.float64) for parts in (self._rows, self._sums))
        wanted, learn = squashed(sums, self.squashing), np.flatnonzero(fitted)
        center = rows[learn].mean(axis=0) * with_offset
        spread = np.sqrt(np.square(rows[learn] - center).mean(axis=0))
        scale = np.where(spread > 0, spread, 1)
        scaled = (rows - center) / scale
        base = rows @ weights + offset  # the change comes on top
        used, target, own = scaled[learn], wanted[learn], base[learn]

        def loss(flat: Array, penalty: float) -> tuple[float, Array]:
            change = flat.reshape(-1, weights.shape[1])
            made = squashed(own + used @ change[:-1] + change[-1] * with_offset, self.squashing)
            slope = (made - target) / len(learn)
            gradient = np.vstack([used.T @ slope, slope.sum(axis=0) * with_offset])
            gradient[:-1] += penalty * change[:-1]
            value = divergence(target, made, self.squashing) + penalty / 2 * float(np.square(change[:-1]).sum())
            return value, gradient.reshape(-1)

        def held_out(change: Array) -> float:
            made = base[~fitted] + scaled[~fitted] @ change[:-1] + change[-1] * with_offset
            return divergence(wanted[~fitted], squashed(made, self.squashing), self.squashing)

        nothing = np.zeros((len(scale) + 1, weights.shape[1]))
        before = held_out(nothing)
        found = [
            minimize(loss, nothing.reshape(-1), (penalty,), "L-BFGS-B", jac=True, options={"maxiter": STEPS}).x
            for penalty in PENALTIES
        ]
        best = min((each.reshape(nothing.shape) for each in found), key=held_out)
        after = held_out(best)
        if not after < before:  # not `>=`: NaN has to count as worse
            return None
        change = best[:-1] / scale[:, None]
        return Fitted(weights + change, offset + best[-1] * with_offset - center @ change, before, after)


def squashed(sums: Array, squashing: str) -> Array:
    """Return the probabilities that a softmax or sigmoid makes of sums (n, O)."""
    if squashing == "softmax":
        powers = np.exp(sums - sums.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    return np.asarray(0.5 * (1 + np.tanh(sums / 2)))  # overflows nowhere


def divergence(wanted: Array, made: Array, squashing: str) -> float:
    """Return the mean over samples of KL(wanted ‖ made) in nats; of a sigmoid summed over outputs."""

    def of(p: Array, q: Array) -> Array:
        return np.asarray(p * (np.log(p + TINY) - np.log(q + TINY)))

    total = of(wanted, made) if squashing == "softmax" else of(wanted, made) + of(1 - wanted, 1 - made)
    return float(total.sum(axis=1).mean())
