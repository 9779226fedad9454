"""Declare where samples can come from: a source is one file with its settings, its reader and a `Source`.

One line under the entry-point group `secateur.sources` names it; a source is imported where a recipe names it, and all
of them to explain a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field
from pydantic.fields import FieldInfo

from pipeline.data.table import Reader
from pipeline.errors import RecipeError, SecateurError
from pipeline.records.values import Value
from pipeline.store.file_digests import FileDigests
from pipeline.system.plugins import loaded, named_in, require_installed

SOURCES_GROUP = "secateur.sources"


class SourceSettings(Value):
    """Hold the keys under `data` that a source reads and others do not; those without a default are needed.

    `places` are the keys that say where samples are; all others say what they are, and enter the digests of splits.
    """

    places: ClassVar[frozenset[str]] = frozenset()

    def form(self) -> dict[str, Any]:
        """Return the settings that define samples, as plain data: what differs from the defaults."""
        apart = set(self.places)
        return self.model_dump(mode="json", by_alias=True, exclude=apart, exclude_none=True, exclude_defaults=True)


class PathSettings(SourceSettings):
    """Name the file or folder of a source."""

    places: ClassVar[frozenset[str]] = frozenset({"path"})
    path: Path = Field(description="a file or folder, from the recipe's folder")


Own = TypeVar("Own", bound=SourceSettings)


@dataclass(frozen=True, slots=True)
class Opening(Generic[Own]):
    """Hold what a reader is opened with.

    `path` is the file or folder, or the recipe's folder for Python functions; `unlabelled` is whether the recipe says
    that there are no labels; `threads` is the number that decoding may use (0: no limit).
    """

    path: Path
    settings: Own
    unlabelled: bool
    digests: FileDigests
    threads: int


@dataclass(frozen=True, slots=True)
class Source(Generic[Own]):
    """Declare a source of data.

    `recognises` tells from the first bytes of a file that it clearly is of this source; `find` returns where samples
    are if no `path` says it, for settings and the recipe's folder; `class_names` returns the names that the source
    itself gives to classes, in the order of their numbers and without reading samples.
    """

    settings: type[Own]
    reader: Callable[[Opening[Own]], Reader]
    takes: Literal["a file", "a folder", "a file or folder"] = "a file or folder"
    recognises: Callable[[bytes], bool] | None = None
    find: Callable[[Own, Path], Path] | None = None
    class_names: Callable[[Own, Path], tuple[str, ...] | None] | None = None

    def place(self, settings: Own, folder: Path) -> Path:
        """Return where samples are; RecipeError if there is nothing, or something else than the source takes."""
        if self.find is not None:
            return self.find(settings, folder)
        assert isinstance(settings, PathSettings), "a source without a path needs `find`"
        path = folder / settings.path.expanduser()
        if not {"a file": path.is_file(), "a folder": path.is_dir()}.get(self.takes, path.exists()):
            what = f"data.path: {path} is " + (f"not {self.takes}" if path.exists() else "not there")
            raise RecipeError(what, where="data.path", hint="the path is taken from the recipe's folder")
        return path


@cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(named_in(SOURCES_GROUP), key=lambda point: point.name)}


def source_names() -> tuple[str, ...]:
    """Return the names of all installed sources, sorted."""
    return tuple(_points())


@cache
def source_named(name: str) -> Source[Any]:
    """Return the declaration of an installed source; SecateurError if its package can't be imported."""
    point = _points()[name]
    source = loaded(point, "source")
    if not isinstance(source, Source):
        raise SecateurError(f"the source {name} is a {type(source).__name__}", where=point.value, hint="name a Source")
    return source


def every_source() -> Mapping[str, Source[Any]]:
    """Return all installed sources by name."""
    return {name: source_named(name) for name in source_names()}


def fields_of_sources() -> dict[str, FieldInfo]:
    """Return the keys under `data` that belong to sources, each as one of its sources declares it."""
    return {key: field for source in every_source().values() for key, field in source.settings.model_fields.items()}


def owners(key: str) -> tuple[str, ...]:
    """Return the sources that read a key."""
    return tuple(name for name, source in every_source().items() if key in source.settings.model_fields)


def installed_source(name: str) -> str:
    """Return the name of a source if it is installed; pydantic's `literal_error` otherwise."""
    return require_installed(name, source_names())
