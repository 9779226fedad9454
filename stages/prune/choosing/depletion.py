"""Find groups that lose nearly all of their channels, and the setting that prevents it without asking for less.

A ranking over groups can empty a narrow layer, and the network's accuracy with it, though what was asked for is
reached. No setting is proposed because it ought to help: each is tried on the ranking that is there, which takes
milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil

from pipeline.errors import PreconditionError
from stages.keras.channels.groups import ChannelGroup
from stages.prune.choosing.allowed_counts import filters_per_channel
from stages.prune.choosing.choice import Choice, Prepared, Ranking, prepared_from
from stages.prune.choosing.patterns import numbers_of_groups
from stages.prune.config import PruneConfig

MOST_REMOVED = 0.75  # of the source's channels of a group: above this it counts as depleted
MISS = 0.01  # by how much the goal may be missed with another setting: no more than is told without a warning


def depleted(ranking: Ranking, counts: Sequence[int]) -> tuple[int, ...]:
    """Return which prunable groups have lost more than 75 % of their channels in the source, and some of them now."""
    groups = ranking.graph.prunable
    sizes = ranking.source.sizes
    return tuple(
        index
        for index, (group, size, count) in enumerate(zip(groups, sizes, counts, strict=True))
        if count < min(group.channels.size, size * (1 - MOST_REMOVED))
    )


def prevention(prepared: Prepared, choice: Choice) -> str | None:
    """Return the setting, as in a recipe, with which no group is depleted and the goal is reached all the same.

    None if there is no such setting: then less has to be asked for.
    """
    for changes in _candidates(prepared, depleted(prepared.ranking, choice.counts)):
        if _prevents(changes, prepared, choice):
            return _written(changes, prepared.config)
    return None


def _candidates(prepared: Prepared, groups: Sequence[int]) -> Iterator[Mapping[str, object]]:
    """Yield changes of settings, those first that leave most of the ranking as it is."""
    config, ranking = prepared.config, prepared.ranking
    if config.layers:
        yield {"layers": _smaller_ratios(ranking, config, groups)}
    if config.competition == "all":
        yield {"compete": "isomorphic"}
    floor = {"min_channels": max(_least_filters(ranking, index) for index in groups)}
    narrowest = min(group.channels.size for group in ranking.graph.prunable)
    if floor["min_channels"] < narrowest:
        yield floor
    if config.scope != "layer" and config.competition is not None:
        yield {"scope": "layer", "compete": None}
    if floor["min_channels"] >= narrowest:  # it keeps whole groups from being pruned
        yield floor


def _smaller_ratios(ranking: Ranking, config: PruneConfig, groups: Sequence[int]) -> Mapping[str, float]:
    """Return `layers` with ratios of at most 75 % for the patterns that name these groups."""
    every, names = ranking.graph.groups, [layer.name for layer in ranking.model.layers]
    wanted = {ranking.graph.prunable[index].name for index in groups}

    def names_some(pattern: str, ratio: float) -> bool:
        named = numbers_of_groups(every, {pattern: ratio}, names, "prune.layers")
        return any(every[index].name in wanted for index in named)

    return {
        pattern: min(ratio, MOST_REMOVED) if names_some(pattern, ratio) else ratio
        for pattern, ratio in config.layers.items()
    }


def _least_filters(ranking: Ranking, index: int) -> int:
    """Return how many filters each layer of the group has if the group just isn't depleted."""
    group: ChannelGroup = ranking.graph.prunable[index]
    channels = min(group.channels.size, ceil(ranking.source.sizes[index] * (1 - MOST_REMOVED)))
    return channels * min(filters_per_channel(group))


def _prevents(changes: Mapping[str, object], prepared: Prepared, choice: Choice) -> bool:
    """Return whether these settings deplete no group and come as near to the goal, or within 1 % of it."""
    goal = prepared.goal
    # A measured goal was moved until the exported network fitted: others have to cost as much by the same table.
    limit = goal.cost(choice.counts) if prepared.config.measured_target else None
    try:
        other = prepared_from(prepared.ranking, prepared.config.model_copy(update=dict(changes))).choice(limit)
    except PreconditionError:
        return False
    missed = 0.0 if limit is not None else abs(choice.reached - choice.wanted)
    # Of patterns nothing is wanted: NaN, which exceeds nothing.
    farther = abs(other.reached - other.wanted) > max(MISS, missed)
    return not farther and not depleted(prepared.ranking, other.counts)


def _written(changes: Mapping[str, object], config: PruneConfig) -> str:
    """Return changes as in a recipe; of `layers` the patterns whose ratio is another, and what has to be left out."""
    written = []
    for name, value in changes.items():
        if isinstance(value, Mapping):
            others = (f"{pattern}: {ratio:g}" for pattern, ratio in value.items() if ratio != config.layers[pattern])
            written.append(f"{name}: {{{', '.join(others)}}}")
        elif value is not None:
            written.append(f"{name}: {value}")
        elif getattr(config, name) is not None:
            written.append(f"without {name}")
    return " ".join(written)
