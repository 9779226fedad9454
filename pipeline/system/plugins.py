"""Load what the entry points of a group name: stages, formats and others, ours and third-party ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints
from types import MappingProxyType
from typing import Any

from pydantic_core import PydanticCustomError

from pipeline.errors import SecateurError, listed
from pipeline.system.installed import points_of


def named_in(group: str) -> EntryPoints:
    """Return the entry points of a group of ours.

    Raises:
        SecateurError: there are none, although secateur itself has some in each: code and installation differ.
    """
    points = points_of(group)
    if not points:
        what = f"the installed secateur names nothing under {group}: it is older than this code, or was not installed"
        raise SecateurError(what, hint="run `make setup` in the checkout, or install secateur again")
    return points


@contextmanager
def _loading(point: EntryPoint, what: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, AttributeError) as error:
        raise SecateurError(
            f"the {what} {point.name} can't be loaded: {error}",
            where=point.value,
            hint="install its package again, or remove it",
        ) from error


def loaded(point: EntryPoint, what: str) -> Any:
    """Return what an entry point names; `what` names such things in messages.

    Raises:
        SecateurError: a package that is installed can't be imported, or lacks the name.
    """
    with _loading(point, what):
        return point.load()


def require_installed(name: str, names: Iterable[str]) -> str:
    """Return a name that pydantic validates; an unknown one is a `literal_error`, like any other choice."""
    known = list(names)
    if name not in known:
        expected = listed(map(repr, known), "or")
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return name


@cache
def instances_of(group: str, what: str) -> Mapping[str, Any]:
    """Return what the classes of a group's entry points make, by name; `what` names one of them in messages.

    Raises:
        SecateurError: a package that is installed can't be imported, or lacks the name.
    """
    found: dict[str, Any] = {}
    for point in named_in(group):
        with _loading(point, what):
            found[point.name] = point.load()()
    return MappingProxyType(found)
