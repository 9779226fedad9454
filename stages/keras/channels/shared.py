"""Cache results that depend on arrays that many weights share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from stages.keras.channels.labels import Ids

Made = TypeVar("Made")


class OncePerArray(Generic[Made]):
    """Call a function of arrays once per array object: comparing arrays for equality would take as long."""

    def __init__(self, function: Callable[[Ids], Made]) -> None:
        self._function = function
        self._made: dict[int, tuple[Ids, Made]] = {}  # with the arrays, so that no other one gets their ids meanwhile

    def __call__(self, array: Ids) -> Made:
        cached = self._made.get(id(array))
        if cached is None:
            cached = self._made[id(array)] = (array, self._function(array))
        return cached[1]
