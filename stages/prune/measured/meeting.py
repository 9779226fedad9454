"""Targets that only a device can tell: the pruned network is exported and measured, and the goal moved until it fits.

What layers cost alone says which way and about how far; the exported network has operators that no probe stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import PreconditionError
from stages.prune.choosing.choice import Choice, Given, Prepared
from stages.prune.measured.probing import ProfiledCost
from stages.prune.surgery.surgeon import remove_channels

TOLERANCE = 0.03  # of the share that was asked for
TRIES = 10
SAME_GOAL = 1e-5


@dataclass(frozen=True, slots=True)
class Attempt:
    """A goal, the share that was expected to be left, and the one that was measured."""

    limit: float
    expected: float
    measured: float


def met_by_measuring(prepared: Prepared, model: Any, given: Given) -> tuple[Choice, Any]:
    """What goes and the network without it, whose exported file's measured share is within 3 % of the one wanted.

    Raises PreconditionError, with the nearest share that was measured, where the counts allowed come no nearer.
    """
    device, cost = given.device, prepared.goal.cost
    if device is None or not isinstance(cost, ProfiledCost):
        raise AssertionError("`prepare` makes sure of both")
    wanted = prepared.goal.limit if prepared.goal.limit <= 1 else prepared.goal.limit / device.source_cost()
    now = device.share(model) if given.source is not None else 1.0
    prepared = replace(prepared, goal=replace(prepared.goal, cost=replace(cost, whole=now)))
    attempts: list[Attempt] = []
    limit: float | None = wanted
    while limit is not None and len(attempts) < TRIES:
        choice = prepared.choice(limit)
        pruned = remove_channels(model, choice.graph, choice.keep)
        measured = device.share(pruned)
        attempts.append(Attempt(limit, choice.reached, measured))
        given.heard(len(attempts), TRIES)
        if abs(measured / wanted - 1) <= TOLERANCE:
            return replace(choice, wanted=wanted, reached=measured), pruned
        limit = next_limit(attempts, wanted)
    raise _missed(attempts, wanted, prepared)


def next_limit(attempts: Sequence[Attempt], wanted: float) -> float | None:
    """The goal to try next, on the line through two attempts, or in proportion; None where it was tried before.

    The two are the nearest on both sides of what is wanted, or on the one side on which all are. Where a goal led to a
    network that was measured before, the next one lies twice, thrice as far.
    """
    nearest, *others = sorted(attempts, key=lambda a: abs(a.measured - wanted))
    others = [a for a in others if a.measured != nearest.measured]
    across = [a for a in others if (a.measured > wanted) != (nearest.measured > wanted)]
    second = next(iter(across or others), None)
    if second is None:
        move = nearest.expected * (wanted / nearest.measured - 1)
    else:
        slope = (second.expected - nearest.expected) / (second.measured - nearest.measured)
        move = slope * (wanted - nearest.measured)
    limit = nearest.expected + move * sum(a.measured == nearest.measured for a in attempts)
    return limit if 0 < limit < 1 and all(abs(limit - a.limit) > SAME_GOAL for a in attempts) else None


def _missed(attempts: Sequence[Attempt], wanted: float, prepared: Prepared) -> PreconditionError:
    nearest = min(attempts, key=lambda a: abs(a.measured - wanted))
    measure = prepared.goal.measure
    return PreconditionError(
        f"{measure} of {wanted:.3f} of the source can't be met within {TOLERANCE:.0%}: "
        f"{len(attempts)} networks were measured, the nearest has {nearest.measured:.3f}",
        where=f"prune.{measure}",
        hint=f"{measure}: {nearest.measured:.3f} can be had; round_to, min_channels and exclude limit what can",
    )
