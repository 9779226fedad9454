"""See a separable convolution as linear in what its windows hold, and fit both of its kernels in turns.

Both kernels together are the kernel of an ordinary convolution of a special form: W[k, c, o] = Σ_m D[k, c, m]·P[c, m,
o]. Given D the best P is a regression, and given P the best D is one; both follow from the same sums over windows, so
no turn reads the samples again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from stages.keras.regression.linear_layers import Candidate, LinearLayer, Matrices, Rows
from stages.keras.regression.normal_equations import Array, Moments, ridge_regression
from stages.keras.regression.windows import Floats, Places
from stages.keras.types import KerasLayer

TURNS = 4


@dataclass(frozen=True, slots=True)
class SeparableLayer:
    """Read `layer` as one matrix over its windows, (1, taps·C, outputs)."""

    layer: KerasLayer

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of `matrices`."""
        return 1, prod(self.layer.depthwise_kernel.shape[:-1]), int(self.layer.pointwise_kernel.shape[-1])

    @property
    def matrices(self) -> Matrices:
        """Return what both kernels do together."""
        return _together(*self._kernels())

    @property
    def offset(self) -> Array:
        """Return the bias, a number for each output channel; zeros without one."""
        return LinearLayer(self.layer).offset

    def rows(self, inputs: Floats, outputs: tuple[int, ...], picks: Places) -> Rows:
        """Return (1, N·P, taps·C) windows of `inputs` at the positions `picks` (N, P) of outputs of this shape."""
        seen = LinearLayer(self.layer).windows(inputs, outputs, picks)
        return seen.reshape(1, -1, prod(seen.shape[2:])).astype(np.float64)

    def candidates(self, moments: Moments, ridge: float, block: slice) -> Iterator[Candidate]:
        """Yield a change of the matrix after each half of a turn; `moments` are of all unknowns."""
        covariance, cross = (values[0] for values in moments.covariances())
        depthwise, pointwise = self._kernels()
        before = _together(depthwise, pointwise)
        cross = cross + covariance @ before[0]  # of the windows with what the layer should give, not with the residual
        for _ in range(TURNS):
            pointwise = _pointwise(covariance, cross, depthwise, pointwise, ridge)
            yield self._candidate(before, depthwise, pointwise)
            depthwise = _depthwise(covariance, cross, depthwise, pointwise, ridge)
            yield self._candidate(before, depthwise, pointwise)

    def _candidate(self, before: Matrices, depthwise: Array, pointwise: Array) -> Candidate:
        values = (
            (self.layer.depthwise_kernel, depthwise.reshape(self.layer.depthwise_kernel.shape)),
            (self.layer.pointwise_kernel, pointwise.reshape(self.layer.pointwise_kernel.shape)),
        )
        return Candidate(_together(depthwise, pointwise) - before, lambda _: values)

    def _kernels(self) -> tuple[Array, Array]:
        """Return D (taps, C, multiplier) and P (C, multiplier, outputs)."""
        depthwise = self.layer.depthwise_kernel.numpy().astype(np.float64)
        depthwise = depthwise.reshape(-1, *depthwise.shape[-2:])
        pointwise = self.layer.pointwise_kernel.numpy().astype(np.float64)
        return depthwise, pointwise.reshape(*depthwise.shape[1:], -1)


def _together(depthwise: Array, pointwise: Array) -> Matrices:
    product = np.einsum("kcm,cmo->kco", depthwise, pointwise)
    return np.asarray(product.reshape(1, -1, product.shape[-1]))


def _pointwise(covariance: Array, cross: Array, depthwise: Array, pointwise: Array, ridge: float) -> Array:
    """Return the best P for this D; the ridge draws towards the P given."""
    taps, channels, multiplier = depthwise.shape
    windows = covariance.reshape(taps, channels, taps, channels)
    half = np.einsum("kcld,ldn->kcdn", windows, depthwise)
    gram = np.einsum("kcm,kcdn->cmdn", depthwise, half).reshape(channels * multiplier, -1)
    target = np.einsum("kcm,kco->cmo", depthwise, cross.reshape(taps, channels, -1)).reshape(len(gram), -1)
    return _towards(gram, target, pointwise.reshape(len(gram), -1), ridge).reshape(pointwise.shape)


def _depthwise(covariance: Array, cross: Array, depthwise: Array, pointwise: Array, ridge: float) -> Array:
    """Return the best D for this P; the ridge draws towards the D given."""
    taps, channels, _ = depthwise.shape
    windows = covariance.reshape(taps, channels, taps, channels)
    shared = np.einsum("cmo,dno->cmdn", pointwise, pointwise)
    gram = np.einsum("kcld,cmdn->kcmldn", windows, shared).reshape(depthwise.size, -1)
    target = np.einsum("kco,cmo->kcm", cross.reshape(taps, channels, -1), pointwise).reshape(-1, 1)
    return _towards(gram, target, depthwise.reshape(-1, 1), ridge).reshape(depthwise.shape)


def _towards(gram: Array, target: Array, present: Array, ridge: float) -> Array:
    return np.asarray(present + ridge_regression(gram[None], (target - gram @ present)[None], ridge)[0])
