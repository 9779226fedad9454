"""Decide how many channels each group keeps.

A scope says in which proportion groups contribute (`families.py`): a curve from nothing removed to all removed. A goal
says how far along it to go: a share of the channels, or what is left of MACs, parameters or bytes. Then the counts are
rounded to allowed ones, and moved step by step towards the goal again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PreconditionError
from stages.keras.channels.groups import ChannelGraph, ChannelGroup
from stages.keras.channels.labels import Keep
from stages.prune.choosing.allowed_counts import Counts, nearest
from stages.prune.choosing.cost import Measure
from stages.prune.config import PruneConfig
from stages.prune.ranking.members import Scores

TOLERANCE = 0.02  # accepted distance from a target if counts can't come nearer
HALVINGS = 50


class Priced(Protocol):
    """Price a network by how many channels each group keeps: counted (`Cost`) or measured (`ProfiledCost`)."""

    def __call__(self, counts: Sequence[float] | NDArray[np.float64], /) -> float:
        """Return the total."""

    def by_layer(self, counts: Sequence[float] | NDArray[np.float64], /) -> Mapping[str, float]:
        """Return the cost layer by layer."""


Curve = Callable[[float], NDArray[np.float64]]  # from 0 (nothing goes) to 1 (all goes) to channels kept, group by group


@dataclass(frozen=True, slots=True)
class Goal:
    """Set what the network may cost: `limit` in the unit of `measure`; `whole` is the value of 1.0, for messages."""

    measure: Measure
    limit: float
    whole: float
    cost: Priced = field(repr=False)


def orders_of(scores: Sequence[Scores]) -> list[NDArray[np.int64]]:
    """Return for each group the places of its channels, most important first."""
    # Stable: of equal scores the first channels stay, on every machine.
    return [np.argsort(-ranking, kind="stable") for ranking in scores]


def kept_channels(
    graph: ChannelGraph, groups: Sequence[ChannelGroup], orders: Sequence[NDArray[np.int64]], counts: Sequence[int]
) -> Keep:
    """Return for each channel of `graph` whether it stays; only channels of `groups` go."""
    keep = np.ones(graph.count, dtype=bool)
    for group, order, count in zip(groups, orders, counts, strict=True):
        keep[group.channels[order[count:]]] = False
    return keep


def counts_for(goal: Goal, curve: Curve, allowed: Sequence[Counts]) -> list[int]:
    """Return how many channels each group keeps: allowed counts along the curve, as near to the goal as possible.

    Raises PreconditionError if even the smallest counts exceed the goal by more than 2 %.
    """
    check_reachable(goal, allowed)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if goal.cost(curve(middle)) > goal.limit else (low, middle)
    return _settled(curve(high), allowed, goal)


def check_reachable(goal: Goal, allowed: Sequence[Counts]) -> None:
    """Raise PreconditionError if even the smallest counts exceed the goal by more than 2 %."""
    if goal.measure == "channels":
        return  # rounding may forbid a share of the channels: the actual share is reported
    least = [float(counts[0]) for counts in allowed]
    reached = goal.cost(least)
    if reached <= goal.limit * (1 + TOLERANCE):
        return
    layers = sorted(goal.cost.by_layer(least).items(), key=lambda item: -item[1])[:3]
    heaviest = ", ".join(f"{name} ({value / goal.whole:.1%})" for name, value in layers)
    raise PreconditionError(
        f"{goal.measure} can't come down to {goal.limit / goal.whole:#.3g} of the source: "
        f"with every channel gone that may go, {reached / goal.whole:#.3g} is left",
        where=f"prune.{goal.measure}",
        hint=f"most of what is left: {heaviest}; secateur inspect says what freezes them; "
        "min_channels, round_to and exclude set the floors",
    )


def _settled(wanted: NDArray[np.float64], allowed: Sequence[Counts], goal: Goal) -> list[int]:
    """Return allowed counts near the wanted ones, moved step by step while that brings the cost nearer to the goal.

    Each step moves the group that stays relatively nearest to its wanted count.
    """
    positions = [nearest(counts, want) for counts, want in zip(allowed, wanted, strict=True)]
    now = np.array([counts[position] for counts, position in zip(allowed, positions, strict=True)], np.float64)
    while True:
        excess = goal.cost(now) - goal.limit
        step = -1 if excess > 0 else 1
        best, best_distance = None, np.inf
        for group, (counts, position) in enumerate(zip(allowed, positions, strict=True)):
            if not 0 <= position + step < counts.size:
                continue
            distance = abs(counts[position + step] - wanted[group]) / counts[-1]
            if distance < best_distance and _improves(now, group, counts[position + step], excess, goal):
                best, best_distance = group, distance
        if best is None:
            return [int(count) for count in now]
        positions[best] += step
        now[best] = allowed[best][positions[best]]


def _improves(now: NDArray[np.float64], group: int, count: float, excess: float, goal: Goal) -> bool:
    moved = now.copy()
    moved[group] = count
    # By more than rounding, or two equally good counts could be exchanged forever.
    return abs(goal.cost(moved) - goal.limit) < abs(excess) * (1 - 1e-9)


def check_something_goes(config: PruneConfig, removed: int) -> None:
    """Raise PreconditionError if something was to go and nothing did."""
    if removed or config.nothing_goes:
        return
    raise PreconditionError(
        f"nothing is taken away with round_to {config.round_to} and min_channels {config.min_channels}",
        where="prune",
        hint="ask for more, or lower round_to or min_channels",
    )
