"""Define typed progress. Stages report what happens; the listener decides how it looks (live line, log, test)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.system import interruption


@dataclass(frozen=True, slots=True)
class Started:
    """Report that an action began to run (hits never start)."""

    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """Report `done` of `total` units; `what` names the unit ("epoch 2/3"), `detail` is free text ("loss 0.31")."""

    action: str
    done: float
    total: float
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """Report something that the user should know and that does not stop the work."""

    action: str
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Report that another process is running the same action; its result will be used."""

    action: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Report that an action succeeded: its status is hit, ran or resumed."""

    action: str
    status: str
    reason: str
    wall_s: float
    metrics: dict[str, float] = field(default_factory=dict)


INTERRUPTED = "interrupted"  # the message of an action that was stopped without failing


@dataclass(frozen=True, slots=True)
class Failed:
    """Report that an action ended in an error, or was stopped: then its message is `INTERRUPTED`."""

    action: str
    wall_s: float
    message: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Report that an action was not started because of another one."""

    action: str
    reason: str


Event = Started | Advanced | Warned | Waiting | Finished | Failed | Skipped
Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class ActionEvents:
    """Send a stage's events to the listener, with the action's id filled in."""

    action: str
    listener: Listener

    def advanced(self, done: float, total: float, what: str, detail: str = "") -> None:
        # Raises a Ctrl-C that C++ swallowed: long work reports progress, so it ends here and not at the next action.
        interruption.check()
        self.listener(Advanced(self.action, done, total, what, detail))

    def warned(self, message: str) -> None:
        self.listener(Warned(self.action, message))


def silent(_: Event) -> None:
    """Ignore all events."""
