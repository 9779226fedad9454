"""Solve ridge regressions from sums: rows and targets are added batch by batch and never kept.

With rows P and targets R, each with its mean taken away, the solution of min ‖P·W - R‖² + n·λ‖W‖² is
(PᵀP/n + λ)⁻¹ PᵀR/n; λ is `ridge` times the mean of the diagonal of PᵀP/n. The offset that goes with it is
mean(R) - mean(P)·W. All in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Solution:
    """Hold the weights (G, U, O) and the offset (G, O) that predict targets from rows."""

    weights: Array
    offset: Array


@dataclass(slots=True)
class Moments:
    """Hold sums over rows (G, n, U) and targets (G, n, O), relative to the first batch's means.

    Sums around a value near the mean lose no digits if the mean is large against the deviation. Without `centered` that
    value is zero, and solutions have no offset.
    """

    groups: int
    unknowns: int
    outputs: int
    centered: bool = True
    count: int = 0
    center: Array = field(init=False)
    level: Array = field(init=False)
    rows: Array = field(init=False)
    targets: Array = field(init=False)
    squares: Array = field(init=False)
    gram: Array = field(init=False)
    cross: Array = field(init=False)

    def __post_init__(self) -> None:
        by_unknown, by_output = (self.groups, 1, self.unknowns), (self.groups, 1, self.outputs)
        self.center, self.rows = np.zeros(by_unknown), np.zeros(by_unknown)
        self.level, self.targets, self.squares = np.zeros(by_output), np.zeros(by_output), np.zeros(by_output)
        self.gram = np.zeros((self.groups, self.unknowns, self.unknowns))
        self.cross = np.zeros((self.groups, self.unknowns, self.outputs))

    def add(self, rows: Array, targets: Array) -> None:
        """Add n rows and their targets: (G, n, U) and (G, n, O)."""
        if not rows.shape[1]:
            return
        if self.centered and not self.count:
            self.center, self.level = rows.mean(axis=1, keepdims=True), targets.mean(axis=1, keepdims=True)
        rows, targets = rows - self.center, targets - self.level
        across = rows.swapaxes(1, 2)
        self.gram += across @ rows
        self.cross += across @ targets
        self.rows += rows.sum(axis=1, keepdims=True)
        self.targets += targets.sum(axis=1, keepdims=True)
        self.squares += np.square(targets).sum(axis=1, keepdims=True)
        self.count += rows.shape[1]

    @property
    def row_means(self) -> Array:
        """Return (G, U): the mean of the rows."""
        return np.asarray((self.center + self.rows / self.count)[:, 0])

    def covariances(self) -> tuple[Array, Array]:
        """Return PᵀP/n (G, U, U) and PᵀR/n (G, U, O) of the centered rows and targets, or as they are."""
        mean, level = self._means()
        across = mean.swapaxes(1, 2)
        covariance, cross = self.gram / self.count, self.cross / self.count
        covariance -= across @ mean
        cross -= across @ level
        return covariance, cross

    def solve(self, ridge: float) -> Solution:
        """Return the ridge regression; where all rows are equal, weights are zero."""
        covariance, cross = self.covariances()
        return self.with_offset(ridge_regression(covariance, cross, ridge))

    def with_offset(self, weights: Array) -> Solution:
        """Return these weights with the offset that fits best."""
        mean, level = self._means()
        offset = (level + self.level - (mean + self.center) @ weights)[:, 0] * self.centered
        return Solution(weights, np.asarray(offset))

    def _means(self) -> tuple[Array, Array]:
        return self.rows / self.count * self.centered, self.targets / self.count * self.centered

    def error(self, solution: Solution) -> Array:
        """Return (G, O): the mean squared difference between targets and what `solution` predicts."""
        weights = solution.weights
        shift = solution.offset[:, None] - self.level + self.center @ weights
        mean = (self.targets - self.rows @ weights) / self.count
        products = np.einsum("guo,guo->go", weights, self.gram @ weights - 2 * self.cross)[:, None]
        error = (self.squares + products) / self.count - 2 * shift * mean + shift**2
        return np.asarray(np.maximum(error[:, 0], 0))  # rounding can bring a tiny one below 0

    def variance(self) -> Array:
        """Return (G, O): the variance of the targets."""
        return np.asarray(np.maximum(self.squares / self.count - np.square(self.targets / self.count), 0)[:, 0])

    def power(self) -> Array:
        """Return (G, O): the mean square of the targets."""
        return self.variance() + np.square(self.level + self.targets / self.count)[:, 0]


def ridge_regression(covariance: Array, cross: Array, ridge: float) -> Array:
    """Return (G, U, O): (covariance + λ)⁻¹ cross, with λ = `ridge` times the mean of each diagonal.

    `covariance` changes as by `add_ridge`.
    """
    add_ridge(covariance, ridge)
    return np.asarray(np.linalg.solve(covariance, cross), np.float64)


def add_ridge(covariance: Array, ridge: float) -> None:
    """Add to each of the covariances (G, U, U) `ridge` times the mean of its diagonal, or `ridge` where that is 0.

    In place: a copy of the largest array would double what a layer takes.
    """
    diagonal = np.einsum("guu->gu", covariance)  # a view
    scale = diagonal.mean(axis=1, keepdims=True)
    diagonal += ridge * np.where(scale > 0, scale, 1)
