"""Order the layers of a network into steps: what is fitted together, what has to run before, what later steps read.

A layer's inputs must come from the network as fitted so far. So a step holds layers none of which reads another one's
outcome; the calls whose outcome is final by then are run in it, once, and the tensors that later calls read are its
front. The calls of a layer that the network calls several times are all read in one step, some of them after a call
that is not fitted yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GraphCall:
    """Describe one call of a layer in a network's graph: the tensors that it reads and makes, by their keys."""

    layer: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Hold the layers that are fitted together, and places of calls, ascending.

    `reads` are the calls of these layers. `final` calls have their final outcome before this step's layers are fitted.
    `drafts` are other calls that must run so that all of `reads` have inputs.
    """

    layers: tuple[str, ...]
    reads: tuple[int, ...]
    final: frozenset[int]
    drafts: frozenset[int]


def steps_of(calls: Sequence[GraphCall], sizes: Mapping[str, int], limit: int) -> list[Step]:
    """Return the steps that fit the layers in `sizes`, in the order of the graph.

    `sizes` are the bytes that fitting each takes: layers share a step while their sum is at most `limit`.
    """
    upstream = _upstream(calls, sizes)
    groups: list[list[str]] = []
    for name in dict.fromkeys(call.layer for call in calls if call.layer in sizes):
        group = groups[-1] if groups else []
        before = set[str]().union(*(upstream[place] for place in _places(calls, name)))
        fits = sum(sizes[member] for member in (*group, name)) <= limit
        if group and fits and not before & set(group):
            group.append(name)
        else:
            groups.append([name])
    fitted: set[str] = set()
    steps = []
    for group in groups:
        steps.append(_step(calls, upstream, group, fitted, set(sizes)))
        fitted |= set(group)
    return steps


def front_of(calls: Sequence[GraphCall], final: frozenset[int], given: Sequence[str]) -> tuple[str, ...]:
    """Return the tensors, of those `given` to the network or made by `final` calls, that the other calls read."""
    made = {*given, *(key for place in final for key in calls[place].makes)}
    others = (key for place, call in enumerate(calls) if place not in final for key in call.reads)
    return tuple(dict.fromkeys(key for key in others if key in made))


def _upstream(calls: Sequence[GraphCall], fitted: Mapping[str, int]) -> list[frozenset[str]]:
    """Return for each call the layers in `fitted` whose outcome it reads, directly or not."""
    behind: dict[str, frozenset[str]] = {}
    upstream = []
    for call in calls:
        before = frozenset[str]().union(*(behind.get(key, frozenset()) for key in call.reads))
        upstream.append(before)
        after = before | {call.layer} if call.layer in fitted else before
        behind |= dict.fromkeys(call.makes, after)
    return upstream


def _places(calls: Sequence[GraphCall], name: str) -> list[int]:
    return [place for place, call in enumerate(calls) if call.layer == name]


def _step(
    calls: Sequence[GraphCall],
    upstream: Sequence[frozenset[str]],
    group: Sequence[str],
    fitted: set[str],
    all_fitted: set[str],
) -> Step:
    reads = sorted(place for name in group for place in _places(calls, name))
    final = frozenset(
        place
        for place, call in enumerate(calls)
        if upstream[place] <= fitted and (call.layer not in all_fitted or call.layer in fitted)
    )
    makers = {key: place for place, call in enumerate(calls) for key in call.makes}
    needed: set[int] = set()
    waiting = [makers[key] for place in reads for key in calls[place].reads if key in makers]
    while waiting:
        place = waiting.pop()
        if place not in needed:
            needed.add(place)
            waiting += [makers[key] for key in calls[place].reads if key in makers]
    return Step(tuple(group), tuple(reads), final, frozenset(needed - final))
