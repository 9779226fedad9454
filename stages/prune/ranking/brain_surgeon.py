"""Remove the channels of a group one after another, each time the one whose loss costs least.

Structured optimal brain surgeon (ZipLM, arXiv:2302.04089): without a channel, the other inputs of each layer that reads
it take over what they can, as re-fitting will let them. With the inverse H⁻¹ of the inputs' covariance, the error that
is left when the inputs S of a layer with the weights W go is ½ tr(W_Sᵀ (H⁻¹_SS)⁻¹ W_S), and both W and H⁻¹ follow from
it for the next removal. Outputs weigh by the mean square of the loss's gradient there (the output side of K-FAC).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.int64]

PENDING = 128  # columns of updates that wait until they are applied to whole matrices, at the speed of large products


@dataclass(slots=True)
class Reader:
    """Hold what a layer does with `channels` of a group (ascending), each with as many rows, one channel's together.

    `products` (U, U) are W·Wᵀ, with the outputs weighted: costs depend on nothing else of the weights. `inverse` (U, U)
    is of the covariance. Removals change both by `left` L and `right` R: H⁻¹ - L·Lᵀ and W·Wᵀ - L·Rᵀ - R·Lᵀ. So a
    removal computes its own columns only, and the blocks on the diagonals, which are what costs follow from.
    """

    channels: Places
    products: Array
    inverse: Array
    costs: Array = field(init=False)  # of removing each channel alone
    left: Array = field(init=False)
    right: Array = field(init=False)
    waiting: int = field(init=False)
    gone: NDArray[np.bool_] = field(init=False)
    diagonals: tuple[Array, Array] = field(init=False)  # (n, b, b): of the inverse, and of the products

    def __post_init__(self) -> None:
        self._start()

    def remove(self, channel: int) -> None:
        """Remove the rows of a channel; the others take over. Nothing happens if the layer doesn't read it."""
        place = int(np.searchsorted(self.channels, channel))
        if place == self.channels.size or self.channels[place] != channel:
            return
        update, change = self._updates(place)
        width = update.shape[1]
        self.left[:, self.waiting : self.waiting + width] = update
        self.right[:, self.waiting : self.waiting + width] = change
        self.waiting += width
        self.gone[place] = True
        if self.waiting + width > self.left.shape[1]:
            self._apply()
        else:
            self._update_diagonals(update, change)

    def _updates(self, place: int) -> tuple[Array, Array]:
        """Return what removing a channel adds to `left` and `right`: (U, b) each."""
        width = self.inverse.shape[0] // self.channels.size
        rows = slice(place * width, (place + 1) * width)
        left, right = self.left[:, : self.waiting], self.right[:, : self.waiting]
        inverse = self.inverse[:, rows] - left @ left[rows].T
        products = self.products[:, rows] - left @ right[rows].T - right @ left[rows].T
        root = np.linalg.inv(np.linalg.cholesky(inverse[rows])).T  # root·rootᵀ = (H⁻¹_SS)⁻¹
        update = inverse @ root
        taken = update @ root.T  # (U, b): how much the weights of each row change by those that go
        return update, (products - 0.5 * taken @ products[rows]) @ root

    def _update_diagonals(self, update: Array, change: Array) -> None:
        inverses, products = self.diagonals
        left, right = (array.reshape(inverses.shape) for array in (update, change))
        inverses -= left @ left.swapaxes(1, 2)
        across = left @ right.swapaxes(1, 2)
        products -= across + across.swapaxes(1, 2)
        inverses[self.gone], products[self.gone] = np.eye(inverses.shape[1]), 0  # invertible
        self.costs = _costs(inverses, products)

    def _apply(self) -> None:
        """Apply the updates that wait, and forget the rows that are gone."""
        stay = np.repeat(~self.gone, self.inverse.shape[0] // self.channels.size)
        left, right = self.left[stay, : self.waiting], self.right[stay, : self.waiting]
        self.channels = self.channels[~self.gone]
        self.inverse = self.inverse[np.ix_(stay, stay)] - left @ left.T
        across = left @ right.T
        self.products = self.products[np.ix_(stay, stay)] - across - across.T
        self._start()

    def _start(self) -> None:
        count, rows = self.channels.size, self.inverse.shape[0]
        width = rows // max(1, count)
        self.left, self.right = (np.zeros((rows, max(PENDING, width))) for _ in range(2))
        self.waiting, self.gone = 0, np.zeros(count, bool)
        places = np.arange(rows).reshape(count, width)
        own = places[:, :, None], places[:, None, :]
        self.diagonals = self.inverse[own], self.products[own]
        self.costs = _costs(*self.diagonals)


def _costs(inverses: Array, products: Array) -> Array:
    """Return ½ tr((H⁻¹_SS)⁻¹ W_S·W_Sᵀ) for each channel, from the blocks (n, b, b)."""
    if inverses.shape[1] == 1:
        return np.asarray(0.5 * products[:, 0, 0] / inverses[:, 0, 0])
    return np.asarray(0.5 * np.einsum("nbb->n", np.linalg.solve(inverses, products)))


def removal_losses(readers: Sequence[Reader], count: int) -> Array:
    """Return for each of a group's `count` channels the rise of the loss when its turn comes; never falling.

    The readers change. So the channels in the order of their losses are the order of removal, and the sums along it the
    predicted loss of each number of channels removed.
    """
    alive, losses, highest = np.ones(count, bool), np.zeros(count), 0.0
    for _ in range(count):
        costs = np.where(alive, 0.0, np.inf)
        for reader in readers:
            costs[reader.channels] += reader.costs
        place = int(np.argmin(costs))
        # Cheaper than one before by rounding, or because that one's absence helps; a tie would lose the order.
        highest = np.nextafter(max(highest, float(costs[place])), np.inf)
        losses[place], alive[place] = highest, False
        for reader in readers:
            reader.remove(place)
    return losses
