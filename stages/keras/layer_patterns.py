"""Match layer names by pattern, as recipes do, with an error if a pattern matches none."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from pipeline.errors import PreconditionError


def matching(pattern: str, layer_names: Sequence[str], where: str) -> list[str]:
    """Return the names that a pattern matches; PreconditionError with the nearest names if there are none."""
    names = [name for name in layer_names if fnmatchcase(name, pattern)]
    if names:
        return names
    near = get_close_matches(pattern.rstrip("*"), layer_names, n=3, cutoff=0.3)
    raise PreconditionError(
        f'no layer matches "{pattern}"',
        where=where,
        hint=f"the nearest names are {', '.join(near)}" if near else "secateur inspect lists all layers",
    )
