"""Choose which channels go: ranking, then how many of each group, as the settings say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.errors import PreconditionError
from stages.formats.probe import Probe
from stages.keras.channels.groups import ChannelGraph, ChannelGroup, channel_groups
from stages.keras.channels.labels import Freeze, Keep
from stages.keras.macs import macs_of
from stages.keras.types import KerasModel
from stages.keras.wrappers import require_unwrapped
from stages.prune.choosing.allocate import Curve, Goal, check_something_goes, counts_for, kept_channels, orders_of
from stages.prune.choosing.allowed_counts import Counts, allowed_counts
from stages.prune.choosing.cost import Counted, Measure, cost_of, worths
from stages.prune.choosing.patterns import counts_by_ratio, counts_by_threshold, frozen_layers, numbers_of_groups
from stages.prune.choosing.spend import counts_by_loss
from stages.prune.config import PruneConfig, RankingConfig
from stages.prune.measured.probing import GroupCosts, ProfiledCost, profiles
from stages.prune.ranking.families import by_sensitivity, one_ranking, one_ranking_per_class, uniform
from stages.prune.ranking.isomorphism import isomorphism_classes
from stages.prune.ranking.members import Scores
from stages.prune.ranking.reduction import normalized
from stages.prune.ranking.scoring import group_scores
from stages.prune.weighing.report import WeighingReport
from stages.samples.batches import Progress, unheard
from stages.samples.model_samples import ModelSamples

Allocate = Callable[[Goal, Sequence[Counts]], list[int]]  # from a goal and the allowed counts to counts by group
Drops = Mapping[str, Sequence[tuple[float, float]]]  # by group: (ratio, accuracy lost), ascending
# For a model: a score for each channel of each group, as `group_scores` gives them.
Score = Callable[[Any, Sequence[ChannelGroup], RankingConfig, int, ModelSamples | None, Progress], list[Scores | None]]


class Device(Protocol):
    """Measure on a device: what layers cost alone, and what whole networks cost."""

    def costs(self, probes: Sequence[Probe]) -> tuple[Mapping[Probe, float], float]:
        """Return the cost of each probe, and the relative difference between two costs that is not significant."""

    def share(self, model: KerasModel) -> float:
        """Return what a network costs, exported, as a share of the source."""

    def source_cost(self) -> float:
        """Return what the source costs: milliseconds, or instructions."""


@dataclass(frozen=True, slots=True)
class ChoiceBasis:
    """Hold what choosing needs besides the model and the settings.

    `source` is the model that ratios and targets are relative to, if an earlier step has pruned it already; `drops`
    holds a scan's result, for scope `sensitivity`; `device` answers what only measuring tells; `folder` takes scratch
    files, in place of the system's own folder. `score` replaces the criterion: with scores that were computed before,
    or by a custom measure. `weighing` is what a search for all targets found before.
    """

    seed: int = 0
    samples: ModelSamples | None = None
    source: Any = None
    drops: Drops | None = None
    device: Device | None = None
    folder: Path | None = None
    heard: Progress = field(default=unheard)
    score: Score = group_scores
    weighing: WeighingReport | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold the graph, with groups frozen that can't be ranked, and for each of its channels whether it stays.

    `counts` are the channels that prunable groups keep. `measure`, `wanted` and `reached` are shares: of channels
    removed, or of what is left of a target.
    """

    graph: ChannelGraph
    keep: Keep
    counts: tuple[int, ...]
    measure: Measure
    wanted: float
    reached: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Hold what takes long to find out about a network: how its channels score, and what they cost on a device.

    How many channels go follows from it within milliseconds, for any settings that rank and exclude alike.
    """

    model: KerasModel
    graph: ChannelGraph
    scores: Sequence[Scores]
    group_costs: Sequence[GroupCosts | None]
    source: SourceGroups
    drops: Drops | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Hold a network whose channels are ranked, before it is decided how many go.

    `fixed` are the counts that patterns give; otherwise `allocate` gives those for a goal.
    """

    ranking: Ranking
    orders: Sequence[Any]
    allowed: Sequence[Counts]
    goal: Goal
    allocate: Allocate | None
    fixed: Sequence[int] | None
    config: PruneConfig

    def choice(self, limit: float | None = None) -> Choice:
        """Choose what goes; `limit` replaces the goal's own, in its unit.

        Raises PreconditionError if the settings ask for what the network can't give.
        """
        goal = self.goal if limit is None else replace(self.goal, limit=limit)
        if self.fixed is not None or self.allocate is None:
            counts, wanted = list(self.fixed or ()), float("nan")
        else:
            counts, wanted = self.allocate(goal, self.allowed), goal.limit / goal.whole
        graph = self.ranking.graph
        keep = kept_channels(graph, graph.prunable, self.orders, counts)
        check_something_goes(self.config, int((~keep).sum()))
        return Choice(graph, keep, tuple(counts), goal.measure, wanted, goal.cost(counts) / goal.whole)


def prepare(model: KerasModel, config: PruneConfig, basis: ChoiceBasis) -> Prepared:
    """Rank the channels of `model`, which holds no nested models, and measure them on a device if one is asked.

    Raises PreconditionError if settings don't fit the model, or ask for what it can't give.
    """
    graph = prunable_graph(model, config.exclude)
    graph, scores = _ranked(model, graph, config, basis)
    group_costs = _profiles(model, graph, config, basis)
    source = SourceGroups.of(model if basis.source is None else basis.source, graph.prunable, config.exclude)
    return prepared_from(Ranking(model, graph, scores, group_costs, source, basis.drops), config)


def prepared_from(ranking: Ranking, config: PruneConfig) -> Prepared:
    """Apply the settings to channels that are ranked already. Raises PreconditionError as `prepare` does."""
    groups = ranking.graph.prunable
    steps = [profile.steps if profile else None for profile in ranking.group_costs]
    allowed = [allowed_counts(group, config, own) for group, own in zip(groups, steps, strict=True)]
    orders = orders_of(ranking.scores)
    if config.layers or config.thresholds:
        counts = _by_pattern(ranking, config, allowed)
        return Prepared(ranking, orders, allowed, _goal(ranking, orders, "channels", 0.0), None, counts, config)
    measure, left = config.target or ("channels", 1 - config.share)
    if config.measured_target:
        goal = Goal(measure, left, 1.0, ProfiledCost(tuple(ranking.group_costs), 1.0))  # type: ignore[arg-type]  # measures
    else:
        goal = _goal(ranking, orders, measure, left)  # type: ignore[arg-type]  # as above
    return Prepared(ranking, orders, allowed, goal, _allocation(ranking, config, allowed), None, config)


def _profiles(
    model: KerasModel, graph: ChannelGraph, config: PruneConfig, basis: ChoiceBasis
) -> list[GroupCosts | None]:
    """Return the device's profile of each prunable group; None for each if nothing asks for it."""
    if config.measure_on is None:
        return [None] * len(graph.prunable)
    if basis.device is None:
        raise PreconditionError(
            "measure_on asks a device, and there is none here",
            where="prune.measure_on",
            hint="run it from a recipe, or give prune_model a device",
        )
    group_costs = profiles(model, graph, basis.device.costs)
    if not any(group_costs):
        raise PreconditionError(
            "no layer of this model can be measured alone: convolutions and dense layers can",
            where="prune.measure_on",
            hint="round to a number, and prune to macs",
        )
    return group_costs


def prunable_graph(model: KerasModel, exclude: Sequence[str]) -> ChannelGraph:
    """Return the channel graph with excluded layers frozen; PreconditionError if nothing is left to prune."""
    require_unwrapped(model, "prune")
    graph = frozen_layers(channel_groups(model), exclude, [layer.name for layer in model.layers])
    check_prunable(model, graph)
    return graph


def check_prunable(model: KerasModel, graph: ChannelGraph) -> None:
    """Raise PreconditionError, with the reasons, if every group is frozen."""
    if graph.prunable:
        return
    reasons = dict.fromkeys(str(freeze) for group in graph.groups for freeze in group.frozen)
    raise PreconditionError(
        "no channel of this model can be taken away",
        where=model.name,
        hint="frozen by " + "; ".join(list(reasons)[:5]) if reasons else "it has no layer that makes channels",
    )


@dataclass(frozen=True, slots=True)
class SourceGroups:
    """Hold the model that shares are relative to, and the sizes of its groups, in the order of the pruned model's."""

    model: Any
    graph: ChannelGraph
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, model: KerasModel, groups: Sequence[ChannelGroup], exclude: Sequence[str]) -> SourceGroups:
        """Return the groups of the source that have the names of `groups`."""
        graph = frozen_layers(channel_groups(model), exclude, [layer.name for layer in model.layers])
        sizes = {group.name: group.channels.size for group in graph.groups}
        missing = [group.name for group in groups if group.name not in sizes]
        if missing:
            raise PreconditionError(
                f"the source has no channels called {missing[0]}: it can't say what share of them went",
                where="prune",
                hint="prune before stages that change layers' names",
            )
        return cls(model, graph, tuple(sizes[group.name] for group in groups))

    def cost(self, measure: Counted) -> float:
        """Return what the whole source costs; for `channels`, those that can go."""
        if measure == "channels":
            return float(sum(self.sizes))
        return cost_of(self.model, self.graph, (), (), measure)(())


def _goal(ranking: Ranking, orders: Sequence[Any], measure: Counted, left: float) -> Goal:
    if measure == "macs":
        _require_known_macs(ranking.model)
    whole = ranking.source.cost(measure)
    limit = left * whole if left <= 1 else left
    return Goal(measure, limit, whole, cost_of(ranking.model, ranking.graph, ranking.graph.prunable, orders, measure))


def _require_known_macs(model: KerasModel) -> None:
    unknown = macs_of(model).unknown
    if unknown:
        raise PreconditionError(
            f"the MACs of {unknown[0]} are not known: no share of them can be reached",
            where="prune.macs",
            hint="prune to params, or to latency or instructions on a target (measure_on)",
        )


def _ranked(
    model: KerasModel, graph: ChannelGraph, config: RankingConfig, basis: ChoiceBasis
) -> tuple[ChannelGraph, list[Scores]]:
    """Return the graph and scores of its prunable groups; groups that the criterion can't rank become frozen."""
    groups = graph.prunable
    all_scores = basis.score(model, groups, config, basis.seed, basis.samples, basis.heard)
    scored = dict(zip(groups, all_scores, strict=True))
    reason = f"{config.criterion} has nothing to rank its channels by"
    every = tuple(
        replace(group, frozen=(Freeze(group.name, reason),)) if group in scored and scored[group] is None else group
        for group in graph.groups
    )
    graph = replace(graph, groups=every)
    check_prunable(model, graph)
    return graph, [scores for scores in all_scores if scores is not None]


def _by_pattern(ranking: Ranking, config: PruneConfig, allowed: Sequence[Counts]) -> list[int]:
    graph = ranking.graph
    names = [layer.name for layer in ranking.model.layers]
    positions = {group.name: index for index, group in enumerate(graph.prunable)}
    where, patterns = ("prune.layers", config.layers) if config.layers else ("prune.thresholds", config.thresholds)
    by_index = numbers_of_groups(graph.groups, patterns, names, where)
    numbers = {positions[graph.groups[index].name]: number for index, number in by_index.items()}
    if config.layers:
        return counts_by_ratio(graph.prunable, numbers, allowed, ranking.source.sizes)
    return counts_by_threshold(graph.prunable, numbers, allowed, ranking.scores)


def _allocation(ranking: Ranking, config: PruneConfig, allowed: Sequence[Counts]) -> Allocate:
    """Return how the settings distribute pruning over the groups."""
    if config.scope == "loss":
        return lambda goal, counts: counts_by_loss(goal, ranking.scores, counts)
    curve = _curve(ranking, config, allowed)
    return lambda goal, counts: counts_for(goal, curve, counts)


def _curve(ranking: Ranking, config: PruneConfig, allowed: Sequence[Counts]) -> Curve:
    groups, source_sizes = ranking.graph.prunable, ranking.source.sizes
    sizes = [group.channels.size for group in groups]
    if config.scope == "layer":
        return uniform(sizes, source_sizes)
    if config.scope == "sensitivity":
        if ranking.drops is None:
            raise PreconditionError(
                "scope sensitivity goes by a scan, and there is none",
                where="prune.scope",
                hint="run it from a recipe with data, or give prune_model the drops that a scan found",
            )
        return by_sensitivity(sizes, source_sizes, [ranking.drops.get(group.name, ()) for group in groups])
    scores, floors = _comparable_scores(ranking, config), [int(counts[0]) for counts in allowed]
    if config.competition == "all":
        return one_ranking(scores, floors)
    return one_ranking_per_class(scores, floors, source_sizes, isomorphism_classes(ranking.model, ranking.graph))


def _comparable_scores(ranking: Ranking, config: PruneConfig) -> list[Scores]:
    """Return scores of which the lowest go first, whatever their group."""
    scores: Sequence[Scores] = ranking.scores
    if config.target and config.declared.loss:
        # What each channel costs the loss relative to what it saves: the greedy answer to a knapsack problem.
        measure = "macs" if config.measured_target else config.target[0]
        prices = worths(ranking.model, ranking.graph, ranking.graph.prunable, measure)  # type: ignore[arg-type]  # names of measures
        # A channel that saves nothing has the price 0: with this bound it goes last.
        scores = [score / np.maximum(price, 1e-12) for score, price in zip(scores, prices, strict=True)]
    return [normalized(score, config.normalisation_of_criterion) for score in scores]
