"""See a layer with a kernel as linear: at one output position, rows of inputs times matrices, plus an offset.

A layer has G matrices of U unknowns and O outputs each: one for a dense layer or an ordinary convolution, one a group
for a grouped convolution, one a channel for a depthwise one. Output channel g·O + o is column o of matrix g. Of a
separable convolution the pointwise kernel is seen; its rows are what its depthwise kernel computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages.keras.layer_kinds import Kernel, kind_of
from stages.keras.layer_work import of_keras
from stages.keras.regression.normal_equations import Moments
from stages.keras.regression.windows import Floats, Places, axes_of, channels_last, windows
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasLayer, TfVariable

Matrices = NDArray[np.float64]  # (G, U, O)
Rows = NDArray[np.float64]  # (G, n, U)


Values = tuple[tuple[TfVariable, NDArray[np.float64]], ...]  # of a layer's variables


@dataclass(frozen=True, slots=True)
class Candidate:
    """Hold a change of matrices (a block of unknowns); `write` returns the variables' values, given all of it."""

    change: Matrices
    write: Callable[[Matrices], Values]


class Linear(Protocol):
    """See a layer as matrices (G, U, O) that rows of inputs are multiplied with."""

    @property
    def layer(self) -> KerasLayer:
        """Return the layer itself."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (G, U, O), the shape of `matrices`."""

    @property
    def matrices(self) -> Matrices:
        """Return the present matrices."""

    @property
    def offset(self) -> NDArray[np.float64]:
        """Return the present bias, a number for each output channel."""

    def rows(self, inputs: Floats, outputs: tuple[int, ...], picks: Places) -> Rows:
        """Return (G, N·P, U) rows of `inputs` (N, …) at the positions `picks` (N, P) of outputs of this shape."""

    def candidates(self, moments: Moments, ridge: float, block: slice) -> Iterator[Candidate]:
        """Yield changes of the `block` of unknowns that `moments` are of, each of which may reduce their residuals."""


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """Read and write the last kernel of `layer` as matrices, and its inputs as rows."""

    layer: KerasLayer

    @property
    def kernel(self) -> TfVariable:
        """Return the variable that is fitted."""
        return getattr(self.layer, self._kernels[-1].weight)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (G, U, O), the shape of `matrices`."""
        sizes = self.kernel.shape
        groups = int(sizes[-2]) if len(self._kernels[-1].outputs) == 2 else self._groups
        return groups, prod(sizes) // self.outputs, self.outputs // groups

    @property
    def matrices(self) -> Matrices:
        """Return the kernel's values."""
        return to_matrices(self.kernel.numpy().astype(np.float64), self._kernels[-1], self._groups)

    def candidates(self, moments: Moments, ridge: float, block: slice) -> Iterator[Candidate]:
        """Yield the ridge regression, as the kernel's constraint leaves it."""
        change = moments.solve(ridge).weights
        yield Candidate(change if self.kernel.constraint is None else self._constrained(change), self.written)

    def _constrained(self, change: Matrices) -> Matrices:
        """Return what a constraint leaves of a change: nothing if it is one of a part of the kernel."""
        own = self.matrices
        if change.shape != own.shape:
            return np.zeros_like(change)
        ((kernel, wanted),) = self.written(own + change)
        allowed = np.asarray(kernel.constraint(import_tensorflow().cast(wanted, kernel.dtype)), np.float64)
        return to_matrices(allowed, self._kernels[-1], self._groups) - own

    def written(self, matrices: Matrices) -> Values:
        """Return the kernel with the values that make it these matrices."""
        return ((self.kernel, to_kernel(matrices, tuple(self.kernel.shape), self._kernels[-1])),)

    @property
    def outputs(self) -> int:
        """Return how many output channels the layer has."""
        return prod(int(self.kernel.shape[axis]) for axis in self._kernels[-1].outputs)

    @property
    def offset(self) -> NDArray[np.float64]:
        """Return the bias, a number for each output channel; zeros without one."""
        bias = getattr(self.layer, "bias", None)
        return np.zeros(self.outputs) if bias is None else bias.numpy().astype(np.float64)

    def rows(self, inputs: Floats, outputs: tuple[int, ...], picks: Places) -> Rows:
        """Return (G, N·P, U) rows of `inputs` (N, …) at the positions `picks` (N, P) of outputs of this shape."""
        seen = self.windows(inputs, outputs, picks)
        if kind_of(self.layer).separable:
            depthwise = to_matrices(self.layer.depthwise_kernel.numpy().astype(np.float64), self._kernels[0], 1)
            filtered = _by_group(seen, self._kernels[0], 1) @ depthwise  # (C, n, multiplier)
            return np.moveaxis(filtered, 0, 1).reshape(1, filtered.shape[1], -1)
        return _by_group(seen, self._kernels[-1], self._groups)

    def windows(self, inputs: Floats, outputs: tuple[int, ...], picks: Places) -> Floats:
        """Return (N, P, taps, C) of what the layer's first kernel sees."""
        inputs = channels_last(self.layer, inputs)
        spatial = spatial_sizes(self.layer, outputs)
        if not hasattr(self.layer, "kernel_size"):  # a dense layer: each position alone
            return inputs.reshape(len(inputs), prod(spatial), -1)[np.arange(len(inputs))[:, None], picks][:, :, None]
        axes = axes_of(self.layer, inputs.shape[1:-1], spatial)
        return windows(inputs, axes, spatial, picks)

    @property
    def _kernels(self) -> tuple[Kernel, ...]:
        return kind_of(self.layer).kernels

    @property
    def _groups(self) -> int:
        return int(getattr(self.layer, "groups", 1))


def spatial_sizes(layer: KerasLayer, outputs: tuple[int, ...]) -> tuple[int, ...]:
    """Return the spatial sizes of a layer's output of this shape (batch first)."""
    return outputs[2:] if getattr(layer, "data_format", None) == "channels_first" else outputs[1:-1]


def is_linear(layer: KerasLayer) -> bool:
    """Return whether `layer` is one of Keras' own kinds that are linear in a kernel: embeddings are not."""
    kernels = kind_of(layer).kernels
    return bool(kernels) and all(kernel.inputs is not None for kernel in kernels) and of_keras(layer)


def to_matrices(values: NDArray[np.float64], kernel: Kernel, groups: int) -> Matrices:
    """Return the values of a kernel (*taps, two channel axes) as (G, U, O)."""
    *taps, _, _ = values.shape
    by_tap = values.reshape(prod(taps), *values.shape[-2:])
    if len(kernel.outputs) == 2:  # depthwise: (taps, C, multiplier)
        return np.moveaxis(by_tap, 1, 0)
    if kernel.inputs == -1:  # transposed: (taps, outputs, inputs)
        by_tap = np.swapaxes(by_tap, 1, 2)
    matrix = by_tap.reshape(-1, groups, by_tap.shape[-1] // groups)
    return np.moveaxis(matrix, 1, 0)


def to_kernel(matrices: Matrices, shape: tuple[int, ...], kernel: Kernel) -> NDArray[np.float64]:
    """Return the kernel of this shape whose `to_matrices` is `matrices`."""
    *taps, first, second = shape
    if len(kernel.outputs) == 2:
        return np.moveaxis(matrices, 0, 1).reshape(shape)
    matrix = np.moveaxis(matrices, 0, 1).reshape(matrices.shape[1], -1)
    if kernel.inputs == -1:
        return np.swapaxes(matrix.reshape(prod(taps), second, first), 1, 2).reshape(shape)
    return matrix.reshape(shape)


def _by_group(seen: Floats, kernel: Kernel, groups: int) -> Rows:
    """Return windows (N, P, taps, C) as (G, N·P, U) rows for this kernel."""
    *_, taps, channels = seen.shape
    each = channels if len(kernel.outputs) == 2 else groups  # a depthwise kernel has a group for each channel
    grouped = np.moveaxis(seen.reshape(-1, taps, each, channels // each), 2, 0)
    # In C order: products of arrays that are not contiguous take ten times as long.
    return grouped.astype(np.float64, order="C").reshape(each, grouped.shape[1], -1)


def outputs_of(rows: Rows, matrices: Matrices, offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, G·O): what the layer computes on `rows`, before its activation; not finite if its weights are not."""
    with np.errstate(invalid="ignore", over="ignore"):
        values = rows @ matrices  # (G, n, O)
    return np.moveaxis(values, 0, 1).reshape(values.shape[1], -1) + offset
