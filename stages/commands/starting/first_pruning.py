"""Decide how much a first recipe prunes: a feasible share of the work, in the largest steps that allow it.

A share of the channels says little about the work: if they come from a wide layer at the end, nearly all work remains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Literal

from pipeline.errors import PreconditionError
from pipeline.records.values import Value
from stages.keras.channels.groups import ChannelGroup, channel_groups
from stages.keras.channels.labels import Ids
from stages.keras.macs import macs_of
from stages.keras.types import KerasModel
from stages.prune.choosing.allocate import Goal, counts_for
from stages.prune.choosing.allowed_counts import Counts, allowed_counts
from stages.prune.choosing.cost import Cost, cost_of
from stages.prune.config import PruneConfig
from stages.prune.ranking.families import uniform
from stages.prune.ranking.readers import has_linear_reader

LEFT = 0.6  # of the MACs, if the network allows it
GIVEN = 0.6  # of the prunable share otherwise
WORTHWHILE = 0.95  # a goal above it is useless
NEAR = 0.03  # distance to the goal, in steps
STEPS = (8, 4, 2, 1)  # channels; kernels of runtimes work on 8 at a time


class FirstPruning(Value):
    """Set a goal: the share `left` of `measure`, which is `before`, in steps of `round_to` channels.

    `by_loss` tells that the loss of removing channels can be predicted in every group.
    """

    measure: Literal["macs", "params"]
    left: float
    before: int
    round_to: int
    by_loss: bool = False

    @property
    def after(self) -> int:
        """Return how much is to remain."""
        return round(self.left * self.before)


def first_pruning(model: KerasModel) -> FirstPruning | None:
    """Return the goal for `model` (not nested): MACs if known and prunable, else parameters; None for none."""
    import numpy as np

    graph = channel_groups(model)
    groups = graph.prunable
    orders = [np.arange(group.channels.size) for group in groups]
    measures: tuple[Literal["macs", "params"], ...] = ("params",) if macs_of(model).unknown else ("macs", "params")
    for measure in measures if groups else ():
        goal = _goal(measure, cost_of(model, graph, groups, orders, measure), groups, orders)
        if goal is not None:
            return goal.model_copy(update={"by_loss": all(has_linear_reader(model, group) for group in groups)})
    return None


def _goal(
    measure: Literal["macs", "params"], cost: Cost, groups: Sequence[ChannelGroup], orders: Sequence[Ids]
) -> FirstPruning | None:
    before = cost([order.size for order in orders])
    if not before:
        return None
    can_go = 1 - cost([1] * len(groups)) / before
    left = max(LEFT, ceil(100 * (1 - GIVEN * can_go)) / 100)
    if left > WORTHWHILE:
        return None
    goal = Goal(measure, left * before, before, cost)
    step = next((step for step in STEPS if _comes_near(goal, groups, step)), 1)
    return FirstPruning(measure=measure, left=left, before=round(before), round_to=step)


def _comes_near(goal: Goal, groups: Sequence[ChannelGroup], step: int) -> bool:
    """Return whether multiples of `step` come near the goal, whichever groups contribute most.

    That holds if equal shares come near it, and no single step of one group goes far beyond it.
    """
    allowed = [allowed_counts(group, PruneConfig(round_to=step)) for group in groups]
    sizes = [group.channels.size for group in groups]
    try:
        counts = counts_for(goal, uniform(sizes, sizes), allowed)
    except PreconditionError:
        return False
    near = NEAR * goal.whole
    return abs(goal.cost(counts) - goal.limit) <= near and all(
        abs(goal.cost(moved) - goal.cost(counts)) <= 4 * near for moved in _one_step_apart(counts, allowed)
    )


def _one_step_apart(counts: Sequence[int], allowed: Sequence[Counts]) -> Iterator[list[int]]:
    """Yield the counts with one group reduced by one more step, for each group that allows it."""
    for index, (count, own) in enumerate(zip(counts, allowed, strict=True)):
        fewer = own[own < count]
        if fewer.size:
            yield [*counts[:index], int(fewer[-1]), *counts[index + 1 :]]
