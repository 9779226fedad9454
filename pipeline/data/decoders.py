"""Find decoders of samples: one entry point each, so that the engine names no framework."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from pipeline.errors import SecateurError
from pipeline.system.installed import points_of

DECODERS_GROUP = "secateur.decoders"


@cache
def decoder(name: str) -> Callable[..., Any]:
    """Return the function that turns encoded samples into arrays: `image`, `record` or `example`."""
    for point in points_of(DECODERS_GROUP).select(name=name):
        return point.load()  # type: ignore[no-any-return]
    raise SecateurError(f"nothing is installed that decodes {name}s", hint="install secateur again: secateur doctor")
