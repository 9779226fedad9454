"""Fit one layer: its normal equations on fitted and on held-out samples, and whether the new weights are better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from stages.keras.regression.linear_layers import Linear, Rows, Values, outputs_of
from stages.keras.regression.normal_equations import Moments, Solution
from stages.keras.regression.offsets import Offset
from stages.keras.regression.probabilities import Probabilities
from stages.keras.types import TfVariable

BLOCK = 4096  # most unknowns of one system; a layer with more is fitted by blocks of inputs, one after the other
# A share of the outputs' mean square up to which a layer computes what it does in the source: there is nothing to fit.
EXACT = 1e-10

Array = NDArray[np.float64]


@dataclass(slots=True)
class System:
    """Collect rows and residuals of a layer's present weights, and solve for their change.

    What is solved for is the change, so the ridge draws towards the present weights: those of inputs that the samples
    say nothing about stay. A layer that closes the network with `probabilities` is then fitted to those.
    """

    linear: Linear
    offset: Offset | None
    probabilities: Probabilities | None = None
    error_before: float = 0.0
    error_after: float = 0.0
    divergence_before: float | None = None  # of probabilities: by least squares
    divergence_after: float | None = None  # fitted to them
    rows: int = 0
    _write: Callable[[Array], Values] | None = None  # from what reduced the error on held-out samples
    _matrices: Array = field(init=False)  # (G, U, O), with the change so far
    _shift: Array = field(init=False)  # of the offset (G, O)
    _bias: Array = field(init=False)  # (G·O), of the layer as it was
    _fitted: Moments = field(init=False)
    _held_out: Moments = field(init=False)
    _targets: Moments = field(init=False)  # of the source's outputs on held-out samples, without rows

    def __post_init__(self) -> None:
        self._matrices, self._bias = self.linear.matrices, self.linear.offset
        groups, _, outputs = self._matrices.shape
        self._shift = np.zeros((groups, outputs))
        self._targets = Moments(groups, 0, outputs)

    @property
    def unknowns(self) -> int:
        """Return the number of weights of each output."""
        return int(self._matrices.shape[1])

    @property
    def kept(self) -> bool:
        """Return whether there are new weights, which reduce the error on held-out samples."""
        return self._write is not None

    @property
    def values(self) -> Values:
        """Return the new values of the layer's kernels, in float64; none if the old ones stay."""
        return () if self._write is None else self._write(self._matrices)

    @property
    def blocks(self) -> int:
        return -(-self.unknowns // BLOCK)

    def begin(self, block: int) -> None:
        """Begin a pass over the samples, for one block of unknowns."""
        groups, unknowns, outputs = self._matrices[:, self._of(block)].shape
        centered = self.offset is not None
        self._fitted = Moments(groups, unknowns, outputs, centered)
        self._held_out = Moments(groups, unknowns, outputs, centered)

    def add(self, block: int, rows: Rows, targets: Array, fitted: NDArray[np.bool_]) -> None:
        """Add rows (G, n, U) with what the source gives there (n, G·O); `fitted` marks the rows not held out."""
        groups, _, outputs = self._matrices.shape
        shaped = targets.reshape(-1, groups, outputs).swapaxes(0, 1)
        offset = self._bias + self._shift.reshape(-1)  # the shift may go into the normalization that follows
        present = outputs_of(rows, self._matrices, offset).reshape(-1, groups, outputs).swapaxes(0, 1)
        some, residual = rows[:, :, self._of(block)], shaped - present
        for moments, which in ((self._fitted, fitted), (self._held_out, ~fitted)):
            # `compress` and not an index: it gives contiguous arrays, whose products are ten times as fast.
            moments.add(some.compress(which, axis=1), residual.compress(which, axis=1))
        if self.probabilities is not None:
            self.probabilities.add(rows[0], targets, fitted)
        if block == 0:
            nothing = np.empty((groups, int((~fitted).sum()), 0))
            self._targets.add(nothing, shaped[:, ~fitted])

    def solve(self, block: int, ridge: float) -> None:
        """Solve for a block's change; it counts if the error on held-out samples falls."""
        some = self._matrices[:, self._of(block)]
        nothing = Solution(np.zeros_like(some), np.zeros_like(self._shift))
        scale = float(self._targets.variance().sum()) or 1.0
        before = float(self._held_out.error(nothing).sum()) / scale
        if block == 0:
            self.error_before, self.rows = before, self._fitted.count
        self.error_after = before
        if before * scale <= EXACT * float(self._targets.power().sum()):
            return
        tried = [
            (float(self._held_out.error(solution).sum()) / scale, solution, candidate)
            for candidate in self.linear.candidates(self._fitted, ridge, self._of(block))
            for solution in (self._fitted.with_offset(candidate.change),)
        ]
        after, solution, candidate = min(tried, key=itemgetter(0))
        if after < self.error_after:
            some += candidate.change  # a view
            self._shift += solution.offset
            self.error_after, self._write = after, candidate.write
        if self.probabilities is not None:
            self._close(self.probabilities, candidate.write, scale)

    def _close(self, probabilities: Probabilities, write: Callable[[Array], Values], scale: float) -> None:
        """Fit the only block to the probabilities; it counts if the sums are no further off than at the beginning."""
        found = probabilities.fit(self._matrices[0], self._bias + self._shift[0], with_offset=self.offset is not None)
        if found is None:
            return
        change = Solution((found.weights - self.linear.matrices[0])[None], (found.offset - self._bias)[None])
        error = float(self._held_out.error(change).sum()) / scale
        if error <= self.error_before:
            self._matrices, self._shift = found.weights[None], change.offset
            self.error_after, self._write = error, write
            self.divergence_before, self.divergence_after = found.divergence_before, found.divergence_after

    def apply(self) -> None:
        """Put the new weights into the layer, if they are better."""
        for variable, value in self.values:
            variable.assign(value)
        if self.kept and self.offset is not None:
            self.offset.add(self._shift.reshape(-1))

    @property
    def changed(self) -> list[TfVariable]:
        """Return the variables that `apply` has changed."""
        kernels = [variable for variable, _ in self.values]
        return [*kernels, self.offset.variable] if kernels and self.offset is not None else kernels

    def _of(self, block: int) -> slice:
        return slice(block * BLOCK, (block + 1) * BLOCK)
