"""Meet targets that only a device can tell: export and measure the pruned network, and move the goal until it fits.

The cost of single layers gives the direction and the rough distance; the exported network has operators that no probe
represents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import PreconditionError
from stages.keras.types import KerasModel
from stages.prune.choosing.choice import Choice, ChoiceBasis, Prepared
from stages.prune.measured.probing import ProfiledCost
from stages.prune.surgery.surgeon import remove_channels

TRIES = 10
SAME_GOAL = 1e-5


@dataclass(frozen=True, slots=True)
class Attempt:
    """Hold a goal, the share that was expected to be left, and the measured one."""

    limit: float
    expected: float
    measured: float


def reach_measured_goal(prepared: Prepared, model: KerasModel, basis: ChoiceBasis) -> tuple[Choice, Any]:
    """Return the choice and the pruned network whose exported file's measured share is as near as `tolerance` asks.

    Raises PreconditionError, with the nearest measured share, if the allowed counts come no nearer.
    """
    device, cost = basis.device, prepared.goal.cost
    if device is None or not isinstance(cost, ProfiledCost):
        raise AssertionError("`prepare` makes sure of both")
    wanted = prepared.goal.limit if prepared.goal.limit <= 1 else prepared.goal.limit / device.source_cost()
    now = device.share(model) if basis.source is not None else 1.0
    prepared = replace(prepared, goal=replace(prepared.goal, cost=replace(cost, whole=now)))
    attempts: list[Attempt] = []
    limit: float | None = wanted
    while limit is not None and len(attempts) < TRIES:
        choice = prepared.choice(limit)
        pruned = remove_channels(model, choice.graph, choice.keep)
        measured = device.share(pruned)
        attempts.append(Attempt(limit, choice.reached, measured))
        basis.heard(len(attempts), TRIES)
        if abs(measured / wanted - 1) <= prepared.config.tolerance:
            return replace(choice, wanted=wanted, reached=measured), pruned
        limit = next_limit(attempts, wanted)
    raise _missed(attempts, wanted, prepared)


def next_limit(attempts: Sequence[Attempt], wanted: float) -> float | None:
    """Return the goal to try next, on the line through two attempts, or in proportion; None if it was tried before.

    The two are the nearest on both sides of the wanted share, or on one side if all are there. If a goal led to a
    network that was measured before, the next step is two or three times as long.
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
        f"{measure} of {wanted:.3f} of the source can't be met within {prepared.config.tolerance:.0%}: "
        f"{len(attempts)} networks were measured, the nearest has {nearest.measured:.3f}",
        where=f"prune.{measure}",
        hint=f"{measure}: {nearest.measured:.3f} can be had; round_to, min_channels and exclude limit what can",
    )
