"""Define what a source returns for one stored split: inputs and targets as stored, before splits are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.data.samples import Task
from pipeline.data.splits import Samples

Shapes = dict[str, tuple[int, ...]]  # of one sample by input name; "" where inputs have no names
Failures = dict[int, str]  # index of a sample: its name, and why it can't be decoded
NAMED_FAILURES = 3  # how many failures messages name


@dataclass(frozen=True, slots=True)
class Table:
    """Hold inputs and `targets`: one row a sample, or None, or such by output name; `task` is what the source says.

    `undecodable` takes indices of samples and returns which of them can't be decoded; `may_fail` is the share that may.
    """

    inputs: Samples | Mapping[str, Samples]
    targets: Any
    task: Task | None = None
    classes: tuple[str, ...] | Mapping[str, tuple[str, ...]] | None = None
    undecodable: Callable[[Any], Failures] | None = None
    may_fail: float = 0.0


class Reader(Protocol):
    """Read a source of data: stored splits by name."""

    def content(self, stored: str, *, anew: bool = False) -> dict[str, Any]:
        """Return plain data that names what a stored split holds, by digests; `anew` ignores remembered digests.

        Takes neither numpy nor TensorFlow. DataError where the split is not there.
        """

    def shapes(self, stored: str) -> Shapes | None:
        """Return the shapes of one sample of a stored split without reading samples; None if they can't be told."""

    def read(self, stored: str) -> Table:
        """Read the samples of a stored split, which are those that `content` named; DataError if they are not."""


def train_first(names: Iterable[str]) -> list[str]:
    """Return names of stored splits sorted, with `train` before the others."""
    return sorted(names, key=lambda name: (name != "train", name))


def first_of(failures: Failures) -> str:
    """Name the first few samples that can't be decoded, for messages."""
    named = ", ".join(list(failures.values())[:NAMED_FAILURES])
    more = len(failures) - NAMED_FAILURES
    return f"{named}, and {more} more" if more > 0 else named
