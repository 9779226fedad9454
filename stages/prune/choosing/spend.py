"""Spend a budget where it costs least: one predicted loss over the network, against what each removal saves.

Each group's channels go in the order of their losses, which never fall along it. So the cheapest step of all, per unit
saved of what the goal counts, is taken until the goal is met. Costs that a device measured fall in stairs, on which the
next count is often a bad one: a group's steps lead along the lower convex hull of its loss over its cost, from one
count that pays to the next. At the end, what still fits within the goal is given back channel by channel. A budget is
never exceeded; a share of the channels is, by one step, where that is nearer to it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.prune.choosing.allocate import Goal, check_reachable
from stages.prune.choosing.allowed_counts import Counts
from stages.prune.ranking.members import Scores
from stages.prune.ranking.predicted_loss import predicted_losses

Floats = NDArray[np.float64]

SAME = 1e-9  # a relative difference between costs that is rounding


def counts_by_loss(goal: Goal, scores: Sequence[Scores], allowed: Sequence[Counts]) -> list[int]:
    """Return how many channels each group keeps, allowed counts within the goal, at the least predicted loss.

    A share of the channels is no budget: counts are those next to it, above or below.

    Raises PreconditionError if even the smallest counts exceed the goal by more than 2 %.
    """
    check_reachable(goal, allowed)
    losses = [predicted_losses(score)[counts] for score, counts in zip(scores, allowed, strict=True)]
    spending = _Spending(goal, losses, allowed)
    spending.meet_the_goal()
    spending.give_back()
    if goal.measure == "channels":
        spending.come_nearer()
    return [int(count) for count in spending.now]


def places_that_pay(costs: Floats, losses: Floats) -> list[int]:
    """Return places that ever cheaper steps lead through, from the last one down; `losses` never rise with the place.

    With a loss and a cost at each place these are the corners of the lower convex hull of loss over cost.
    """
    places = [costs.size - 1]
    while places[-1]:
        below = np.arange(places[-1] - 1, -1, -1)
        saved = costs[places[-1]] - costs[below]
        pays = saved > SAME * costs[-1]
        if not pays.any():
            break
        prices = np.full(below.size, np.inf)
        prices[pays] = (losses[below] - losses[places[-1]])[pays] / saved[pays]
        places.append(int(below[np.argmin(prices)]))  # the nearest of equal ones
    return places


@dataclass(frozen=True, slots=True)
class _Step:
    """Move a group to another place among its allowed counts: `price` is loss per unit saved, `cost` that after it."""

    group: int
    place: int
    price: float
    cost: float


class _Spending:
    """Hold how many channels each group keeps now, and what the network costs with them.

    `losses[g][p]` is the predicted loss of group g at its allowed count number p.
    """

    def __init__(self, goal: Goal, losses: Sequence[Floats], allowed: Sequence[Counts]) -> None:
        self.goal, self.losses, self.allowed = goal, losses, allowed
        self.limit = goal.limit * (1 + SAME)  # a share of a whole is rarely a whole number of channels
        self.places = [counts.size - 1 for counts in allowed]
        self.now = np.array([counts[-1] for counts in allowed], np.float64)
        self.cost = goal.cost(self.now)

    def meet_the_goal(self) -> None:
        """Take the cheapest steps until the cost is within the goal, or nothing is left to take."""
        paths = [self._path(group) for group in range(len(self.allowed))]
        # Prices only rise while other groups shrink, so an earlier one is a lower bound: only the cheapest are asked
        # again.
        waiting = [(0.0, group) for group in range(len(paths))]
        while self.cost > self.limit and waiting:
            _, group = heapq.heappop(waiting)
            if not paths[group]:
                continue
            step = self._step(group, paths[group][-1])
            if waiting and step.price > waiting[0][0]:
                heapq.heappush(waiting, (step.price, group))
                continue
            paths[group].pop()
            self._take(step)
            heapq.heappush(waiting, (step.price, group))

    def give_back(self) -> None:
        """Take the steps back that regain most loss for what they cost, of those within the goal."""
        while True:
            within = [step for step in self._steps_back() if step.cost <= self.limit]
            if not within:
                return
            self._take(max(within, key=lambda step: step.price))

    def come_nearer(self) -> None:
        """Take one more step back, beyond the goal, if one is nearer to it."""
        missing = self.goal.limit - self.cost
        nearer = [step for step in self._steps_back() if step.cost - self.goal.limit < missing * (1 - SAME)]
        if nearer:
            self._take(max(nearer, key=lambda step: step.price))

    def _steps_back(self) -> list[_Step]:
        places = enumerate(self.places)
        return [self._step(group, place + 1) for group, place in places if place + 1 < self.allowed[group].size]

    def _path(self, group: int) -> list[int]:
        """Return the places that pay below the present one, the next one last."""
        costs = np.array([self._cost_at(group, place) for place in range(self.allowed[group].size)])
        return places_that_pay(costs, self.losses[group])[:0:-1]

    def _take(self, step: _Step) -> None:
        self.places[step.group], self.cost = step.place, step.cost
        self.now[step.group] = self.allowed[step.group][step.place]

    def _step(self, group: int, place: int) -> _Step:
        cost = self._cost_at(group, place)
        saved, lost = self.cost - cost, self.losses[group][place] - self.losses[group][self.places[group]]
        if saved * (self.places[group] - place) <= SAME * self.cost:
            # Fewer channels that save nothing, or more of them that cost nothing.
            return _Step(group, place, np.inf, cost)
        return _Step(group, place, float(lost / saved), cost)

    def _cost_at(self, group: int, place: int) -> float:
        moved = self.now.copy()
        moved[group] = self.allowed[group][place]
        return self.goal.cost(moved)
