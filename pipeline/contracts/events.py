"""Typed progress. Stages say what happens; who listens decides how it looks (a live line, a log line, a test)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.system import interruption


@dataclass(frozen=True, slots=True)
class Started:
    """An action began to run (hits never start)."""

    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """`done` of `total` units; `what` names the unit in words ("epoch 2/3"), `detail` is free text ("loss 0.31")."""

    action: str
    done: float
    total: float
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know that does not stop the work."""

    action: str
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another process is doing this very action; its result will be used."""

    action: str


@dataclass(frozen=True, slots=True)
class Finished:
    """An action ended well: status is hit, ran or resumed."""

    action: str
    status: str
    reason: str
    wall_s: float
    metrics: dict[str, float] = field(default_factory=dict)


INTERRUPTED = "interrupted"  # the message of an action that was stopped and did not fail


@dataclass(frozen=True, slots=True)
class Failed:
    """An action ended in an error, or was stopped: then its message is `INTERRUPTED`."""

    action: str
    wall_s: float
    message: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """An action was not begun, because of another one."""

    action: str
    reason: str


Event = Started | Advanced | Warned | Waiting | Finished | Failed | Skipped
Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class ActionEvents:
    """What a stage is given to speak with: the listener, with the action's id filled in."""

    action: str
    listener: Listener

    def advanced(self, done: float, total: float, what: str, detail: str = "") -> None:
        interruption.check()
        self.listener(Advanced(self.action, done, total, what, detail))

    def warned(self, message: str) -> None:
        self.listener(Warned(self.action, message))


def silent(_: Event) -> None:
    """A listener that listens to nothing."""
