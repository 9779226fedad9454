"""Choose factors of channels between layers, so that 8 bits lose least (Nagel et al. 2019, arXiv:1906.04721).

With a channel x = factor · new, a kernel reads factor · weight. The new tensor has one step, a 255th of the range of
all its channels; the weights of an output have one, a 127th of their largest. Rounding adds a twelfth of a squared step
to each number, so that the noise of what is read is known for any factors. Taken are those of range^e / weights^f, over
a grid of exponents (Xiao et al., SmoothQuant, 2023, arXiv:2211.10438), that have least of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from stages.keras.equalizing.channels import FIXED, Channels, Ids, Variables
from stages.keras.equalizing.draft import Array, Draft
from stages.keras.equalizing.passing import SUMS
from stages.keras.equalizing.statistics import Statistics
from stages.keras.regression.running import Network

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SMALLEST = 2.0**-4  # factor relative to the largest of a tensor: a channel that samples hardly use may be used later
HEADROOM = (
    2.0  # beyond the calibrated range, for all but the channels of largest range: with factors all reach their ends
)
WORTH = 0.5  # of the noise without factors: the model of noise is too rough to believe it in smaller gains
STEPS, LEVELS = 255, 127


@dataclass(frozen=True, slots=True)
class _Read:
    """Describe a call that reads a tensor: what the tensor is like, variables of its channels, how they are read.

    `gains` (I,) say how much of a channel's noise comes through; `peaks` (I, O) are the largest weights by size, None
    where rounding of the weights does not depend on factors: each has a step of its own, or there are none.
    """

    seen: Statistics
    ids: Ids
    gains: Array
    peaks: Array | None = None
    taps: int = 1

    def noise(self, factors: Array) -> float:
        """Return the noise of what is computed of the tensor, relative to the signal."""
        noise = (self.seen.width(factors) / STEPS) ** 2 * float(self.gains @ np.square(factors))
        if self.peaks is not None:
            steps = (self.peaks * factors[:, None]).max(axis=0) / LEVELS
            noise += float(np.square(steps).sum()) * self.taps * float((self.seen.power / factors**2).sum())
        return noise / (12 * float(self.gains @ self.seen.power) or 1.0)


def choose_factors(
    network: Network, channels: Channels, draft: Draft, measured: Mapping[str, Statistics]
) -> dict[str, Array]:
    """Return factors by tensor, of those that get any: x = factor · new.

    `measured` are the statistics of `tensors_read`, at least, by key.
    """
    reads = list(_reads(network, channels, draft, measured))
    chosen: dict[int, float] = {}
    for members in _together([read.ids for read in reads]):
        own = [read for read in reads if members.intersection(read.ids.tolist())]
        chosen |= _best(sorted(members), own)
    return {
        key: factors
        for key, ids in channels.tensors.items()
        if ((factors := np.array([chosen.get(one, 1.0) for one in ids.tolist()])) != 1).any()
    }


def apply_factors(channels: Channels, draft: Draft, factors: Mapping[str, Array]) -> list[str]:
    """Change the draft; return a note for each layer whose outputs have other factors now."""
    by_id = {
        one: factor
        for key, own in factors.items()
        for one, factor in zip(channels.tensors[key].tolist(), own.tolist(), strict=True)
        if one != FIXED
    }
    notes = []
    for name, ids in channels.makes.items():
        own = np.array([by_id.get(one, 1.0) for one in ids.tolist()])
        if (own != 1).any():
            draft.of(name).scale_outputs(1 / own)
            notes.append(f"{name}: its {len(own)} channels are scaled by {1 / own.max():.2g} to {1 / own.min():.2g}")
    for name, ids in channels.reads.items():
        own = np.array([by_id.get(one, 1.0) for one in ids.tolist()])
        if (own != 1).any():
            draft.of(name).scale_inputs(own)
    return notes


def tensors_read(network: Network, channels: Channels) -> list[tuple[str, str]]:
    """Return what decides about factors: calls that read tensors that can have some, as layer and key."""
    return [
        (call.layer, key)
        for call, node in zip(network.calls, network.nodes, strict=True)
        if call.layer in channels.reads or type(node.layer).__name__ in SUMS
        for key in dict.fromkeys(call.reads)
        if (channels.tensors[key] != FIXED).any()
    ]


def _reads(network: Network, channels: Channels, draft: Draft, measured: Mapping[str, Statistics]) -> Iterator[_Read]:
    for layer, key in tensors_read(network, channels):
        ids, seen = channels.tensors[key], measured.get(key)
        if seen is None:
            continue
        if layer in channels.reads:
            kernels = draft.seen(layer)
            peaks = None if kernels.by_channel else kernels.peaks
            yield _Read(seen, ids, kernels.gains, peaks, kernels.taps)
        else:
            yield _Read(seen, ids, np.ones(len(ids)))


def _together(tensors: Sequence[Ids]) -> list[set[int]]:
    """Return sets of variables: those of channels that share a tensor are in one, since they share its step."""
    variables = Variables()
    variables.new(1 + max((int(ids.max(initial=0)) for ids in tensors), default=0))
    for ids in tensors:
        free = ids[ids != FIXED]
        variables.join(free[:-1], free[1:])
    sets: dict[int, set[int]] = {}
    for ids in tensors:
        for one, root in zip(ids.tolist(), variables.roots(ids).tolist(), strict=True):
            if one != FIXED:
                sets.setdefault(root, set()).add(one)
    return list(sets.values())


def _best(members: Sequence[int], reads: Sequence[_Read]) -> dict[int, float]:
    """Return the factor of each variable that has least noise; nothing if that is hardly less than without factors."""
    place = {one: index for index, one in enumerate(members)}
    reach, weights = np.zeros(len(members)), np.zeros(len(members))
    for read in reads:
        at = np.array([place.get(one, -1) for one in read.ids.tolist()])
        own = at >= 0
        np.maximum.at(reach, at[own], read.seen.reach[own])
        if read.peaks is not None:
            np.add.at(weights, at[own], read.gains[own])
    if not reach.any():
        return {}
    reach = np.clip(HEADROOM * reach / reach.max(), 1e-6, 1)
    weights = np.sqrt(np.maximum(weights / weights.max(), 1e-12)) if weights.any() else np.ones_like(weights)
    fixed = any((read.ids == FIXED).any() for read in reads)

    def noise_of(factors: Array) -> float:
        return sum(
            read.noise(np.append(factors, 1.0)[[place.get(one, -1) for one in read.ids.tolist()]]) for read in reads
        )

    without, best = noise_of(np.ones(len(members))), (np.inf, np.ones(len(members)))
    for of_range, of_weights in product(EXPONENTS, EXPONENTS):
        factors = reach**of_range / weights**of_weights
        factors = np.maximum(factors / factors[reach.argmax()] if fixed else factors / factors.max(), SMALLEST)
        best = min(best, (noise_of(factors), factors), key=lambda found: found[0])
    return dict(zip(members, best[1].tolist(), strict=True)) if best[0] < WORTH * without else {}
