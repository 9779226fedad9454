"""See a layer whose kernel lies on the grid of a number format, and move it to other points of that grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.keras.layer_kinds import kind_of
from stages.keras.regression.grids import Grid
from stages.keras.regression.linear_layers import Candidate, LinearLayer, Matrices, Rows, Values, to_kernel, to_matrices
from stages.keras.regression.normal_equations import Array, Moments, add_ridge
from stages.keras.regression.windows import Floats, Places
from stages.keras.types import KerasLayer


@dataclass(frozen=True, slots=True)
class RoundedLayer:
    """See `layer`, whose kernels are on `grid`, as its last kernel's matrices; `original` are those of float weights.

    Its candidates are the present points, for what a bias can correct, and if `adaptive` points nearer to what the
    original weights compute.
    """

    layer: KerasLayer
    original: NDArray[np.float32]
    grid: Grid
    adaptive: bool

    @classmethod
    def of(cls, layer: KerasLayer, grid: Grid, *, adaptive: bool) -> RoundedLayer:
        """Round all kernels of a linear layer, in place, to their nearest points."""
        original = LinearLayer(layer).matrices.astype(np.float32)
        groups = int(getattr(layer, "groups", 1))
        for kernel in kind_of(layer).kernels:
            variable = getattr(layer, kernel.weight)
            matrices = to_matrices(variable.numpy().astype(np.float64), kernel, groups)
            points = grid.nearest(matrices, grid.steps(matrices))
            variable.assign(to_kernel(points, tuple(variable.shape), kernel))
        return cls(layer, original, grid, adaptive)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (G, U, O), the shape of `matrices`."""
        return LinearLayer(self.layer).shape

    @property
    def matrices(self) -> Matrices:
        """Return the kernel's values."""
        return LinearLayer(self.layer).matrices

    @property
    def offset(self) -> Array:
        """Return the bias, a number for each output channel; zeros without one."""
        return LinearLayer(self.layer).offset

    def rows(self, inputs: Floats, outputs: tuple[int, ...], picks: Places) -> Rows:
        """Return (G, N·P, U) rows of `inputs` (N, …) at the positions `picks` (N, P) of outputs of this shape."""
        return LinearLayer(self.layer).rows(inputs, outputs, picks)

    def candidates(self, moments: Moments, ridge: float, block: slice) -> Iterator[Candidate]:
        """Yield no change, and a change to points that give the residuals of `moments` back."""
        points = self.matrices[:, block]
        yield Candidate(np.zeros_like(points), self.written)
        if self.adaptive:
            original = self.original.astype(np.float64)
            steps, weights = self.grid.steps(original), original[:, block]
            gram, cross = moments.covariances()
            residual = cross + gram @ (points - weights)  # of what the original weights give on these rows
            add_ridge(gram, ridge)
            # First without: errors of earlier layers that a fit corrects on a few samples may be theirs alone.
            for wanted in (weights, weights + np.linalg.solve(gram, residual)):
                yield Candidate(self.grid.fed_back(wanted, gram, points, steps) - points, self.written)

    @property
    def steps(self) -> Array:
        """Return the step of each output channel, (outputs, 1)."""
        return self.grid.steps(self.original.astype(np.float64)).reshape(-1, 1)

    @property
    def codes(self) -> Array:
        """Return the kernel in steps, (outputs, U): whole numbers."""
        return np.asarray(np.rint(self.matrices.swapaxes(1, 2).reshape(-1, self.shape[1]) / self.steps))

    def written(self, matrices: Matrices) -> Values:
        """Return the kernel with the values that make it these matrices."""
        return LinearLayer(self.layer).written(matrices)
