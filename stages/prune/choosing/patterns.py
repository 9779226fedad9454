"""Resolve patterns of layer names with a number each: which groups they match, and how many channels they keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.errors import PreconditionError
from stages.keras.channels.groups import ChannelGraph, ChannelGroup
from stages.keras.channels.labels import Freeze, Role
from stages.keras.layer_patterns import matching
from stages.prune.choosing.allowed_counts import Counts, nearest
from stages.prune.ranking.members import Scores


def frozen_layers(graph: ChannelGraph, patterns: Sequence[str], layer_names: Sequence[str]) -> ChannelGraph:
    """Freeze each group in `graph` that a layer matching one of `patterns` makes or holds in its own weights.

    A pattern that matches none of `layer_names` raises PreconditionError with the nearest names.
    """
    excluded: dict[str, str] = {}
    for pattern in patterns:
        excluded |= dict.fromkeys(matching(pattern, layer_names, "prune.exclude"), pattern)
    return replace(graph, groups=tuple(_excluding(group, excluded) for group in graph.groups))


def numbers_of_groups(
    groups: Sequence[ChannelGroup], patterns: Mapping[str, float], layer_names: Sequence[str], where: str
) -> dict[int, float]:
    """Return the number that a pattern gives each of `groups` made by a matching layer, by the group's index.

    PreconditionError if a pattern matches no layer, or none that makes channels, or layers whose channels are all
    frozen, or if two patterns say different things about one group.
    """
    numbers: dict[int, float] = {}
    pattern_of: dict[int, str] = {}
    for pattern, number in patterns.items():
        layers = set(matching(pattern, layer_names, where))
        meant = [index for index, group in enumerate(groups) if layers & set(group.makers)]
        prunable = [index for index in meant if not groups[index].frozen]
        if not prunable:
            raise PreconditionError(
                f'"{pattern}" names no channels that can go',
                where=where,
                hint=_why(groups, meant, layers),
            )
        for index in prunable:
            if numbers.setdefault(index, number) != number:
                raise PreconditionError(
                    f'"{pattern_of[index]}" and "{pattern}" say different things about {groups[index].name}',
                    where=where,
                    hint="layers that share channels have one ratio or threshold: " + ", ".join(groups[index].makers),
                )
            pattern_of.setdefault(index, pattern)
    return numbers


def counts_by_ratio(
    groups: Sequence[ChannelGroup], ratios: Mapping[int, float], allowed: Sequence[Counts], source_sizes: Sequence[int]
) -> list[int]:
    """Return how many channels each group keeps if some lose a share of what they had in the source."""
    counts = [group.channels.size for group in groups]
    for index, ratio in ratios.items():
        wanted = min(counts[index], source_sizes[index] * (1 - ratio))
        counts[index] = int(allowed[index][nearest(allowed[index], wanted)])
    return counts


def counts_by_threshold(
    groups: Sequence[ChannelGroup], thresholds: Mapping[int, float], allowed: Sequence[Counts], scores: Sequence[Scores]
) -> list[int]:
    """Return how many channels each group keeps if in some only those stay that score at least a threshold.

    PreconditionError if none of a group's does, or all of all groups' do.
    """
    counts = [group.channels.size for group in groups]
    for index, threshold in thresholds.items():
        staying = int((scores[index] >= threshold).sum())
        if not staying:
            low, high = scores[index].min(), scores[index].max()
            raise PreconditionError(
                f"a threshold of {threshold:g} would empty {groups[index].name}",
                where="prune.thresholds",
                hint=f"its channels score from {low:.4g} to {high:.4g}",
            )
        counts[index] = int(allowed[index][nearest(allowed[index], staying)])
    if all(count == group.channels.size for count, group in zip(counts, groups, strict=True)):
        ranges = [f"{groups[i].name} from {scores[i].min():.4g} to {scores[i].max():.4g}" for i in thresholds]
        raise PreconditionError(
            "no channel scores below its threshold", where="prune.thresholds", hint=f"they score: {'; '.join(ranges)}"
        )
    return counts


def _excluding(group: ChannelGroup, excluded: Mapping[str, str]) -> ChannelGroup:
    holders = dict.fromkeys((*group.makers, *group.layers(Role.PASS_THROUGH)))
    reasons = tuple(Freeze(name, f'excluded by "{excluded[name]}"') for name in holders if name in excluded)
    return replace(group, frozen=group.frozen + reasons)


def _why(groups: Sequence[ChannelGroup], meant: Sequence[int], layers: set[str]) -> str:
    reasons = dict.fromkeys(str(freeze) for index in meant for freeze in groups[index].frozen)
    if reasons:
        return "frozen by " + "; ".join(list(reasons)[:3])
    return f"{min(layers)} makes no channels of its own: name the convolution or dense layer before it"
