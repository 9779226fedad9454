"""What a source gives for one stored split: inputs and targets as they are stored, before splits are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.data.spec import Task
from pipeline.data.splits import Samples

Shapes = dict[str, tuple[int, ...]]  # of one sample by input name; "" where inputs have no names
Failures = dict[int, str]  # index of a sample: its name, and why it can't be decoded
NAMED_FAILURES = 3  # in messages


@dataclass(frozen=True, slots=True)
class Table:
    """`targets` has a row a sample, or is None, or has such by output name; `task` is what the source knows of them.

    `undecodable` looks at the samples at some indices and tells which of them can't be decoded.
    """

    inputs: Samples | Mapping[str, Samples]
    targets: Any
    task: Task | None = None
    classes: tuple[str, ...] | Mapping[str, tuple[str, ...]] | None = None
    undecodable: Callable[[Any], Failures] | None = None


class Reader(Protocol):
    """A source of data: stored splits by name."""

    def content(self, stored: str, *, anew: bool = False) -> dict[str, Any]:
        """Plain data that names what a stored split holds, by digests; `anew` trusts nothing that is remembered.

        Takes neither numpy nor TensorFlow. DataError where the split is not there.
        """

    def shapes(self, stored: str) -> Shapes | None:
        """What one sample of a stored split is, told without reading samples; None where that can't be told."""

    def read(self, stored: str) -> Table:
        """The samples of a stored split, which are those that `content` named; DataError where they are not."""


def first_of(failures: Failures) -> str:
    """The first few of what can't be decoded, in words."""
    named = ", ".join(list(failures.values())[:NAMED_FAILURES])
    more = len(failures) - NAMED_FAILURES
    return f"{named}, and {more} more" if more > 0 else named
