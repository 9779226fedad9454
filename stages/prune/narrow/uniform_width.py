"""Make a network uniformly narrower: every group of channels keeps the same share, to a number of MACs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.keras.flatten import flattened
from stages.keras.types import KerasModel
from stages.prune.choosing.allocate import Goal, counts_for, kept_channels
from stages.prune.choosing.allowed_counts import allowed_counts
from stages.prune.choosing.choice import prunable_graph
from stages.prune.choosing.cost import cost_of
from stages.prune.config import PruneConfig
from stages.prune.narrow.config import NarrowConfig
from stages.prune.ranking.families import uniform
from stages.prune.surgery.surgeon import remove_channels


@dataclass(frozen=True, slots=True)
class Narrowed:
    """Hold a narrower model, and for each group how many channels it keeps, of how many."""

    model: Any
    counts: Mapping[str, tuple[int, int]]

    @property
    def width(self) -> float:
        """Return the share of channels that all groups together keep."""
        return sum(kept for kept, _ in self.counts.values()) / sum(full for _, full in self.counts.values())


def narrowed(model: KerasModel, macs: float, config: NarrowConfig) -> Narrowed:
    """Return `model` flat and with the same share of each group of channels, its MACs as near to `macs` as possible.

    That is what pruning with `scope: layer` to a target on MACs does, except that of each group the first channels
    stay, and a target below the smallest network gives that one. `model` is unchanged. PreconditionError if no channel
    can go, whatever the target.
    """
    model = flattened(model)
    settings = PruneConfig(scope="layer", round_to=config.round_to, min_channels=config.min_channels)
    graph = prunable_graph(model, config.exclude)
    groups = graph.prunable
    sizes = [group.channels.size for group in groups]
    orders = [np.arange(size) for size in sizes]
    allowed = [allowed_counts(group, settings) for group in groups]
    cost = cost_of(model, graph, groups, orders, "macs")
    goal = Goal("macs", max(macs, cost([counts[0] for counts in allowed])), cost(sizes), cost)
    counts = counts_for(goal, uniform(sizes, sizes), allowed)
    narrow = remove_channels(model, graph, kept_channels(graph, groups, orders, counts))
    names = [group.name for group in groups]
    return Narrowed(narrow, dict(zip(names, zip(counts, sizes, strict=True), strict=True)))
