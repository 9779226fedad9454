"""Share objects in memory between the actions of one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Shared:
    """Hold one object of each class that an action of this run asked for; it ends with the run.

    Models that were read, outputs that were computed: whatever is found again by a digest. No result depends on it.
    """

    def __init__(self) -> None:
        self._objects: dict[Callable[[], Any], Any] = {}

    def of(self, made_by: Callable[[], T]) -> T:
        """Return the run's object of a class; the first request makes it, without arguments."""
        if made_by not in self._objects:
            self._objects[made_by] = made_by()
        shared: T = self._objects[made_by]
        return shared
