"""Find the installed kinds of artifacts: one entry point each, which names the class of the kind's facts.

A class is imported when facts of its kind are read, so that a start pays for no kind that it does not meet.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from pipeline.system.installed import points_of

KINDS_GROUP = "secateur.kinds"


@cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in points_of(KINDS_GROUP)}


@cache
def facts_class(kind: str) -> type[Any] | None:
    """Return the class of the facts of a kind; None if the kind is unknown, or its package is broken."""
    point = _points().get(kind)
    try:
        return point.load() if point is not None else None
    except ImportError:
        return None


def kinds() -> tuple[str, ...]:
    """Return the names of all installed kinds."""
    return tuple(sorted(_points()))
