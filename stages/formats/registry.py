"""Find the installed formats, and ask the one that a file, a kind or a name belongs to."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from pipeline.errors import DeviceError, ModelError, RecipeError, SecateurError
from pipeline.records.artifacts import Kind
from pipeline.records.keys import digest_of
from pipeline.system.quiet import quiet
from stages.formats.format import FileTensor, Format, HoldsAnother, LoadedModel, Runs, ShowsTensors

FORMATS_GROUP = "secateur.formats"


@cache
def formats() -> Mapping[str, Format]:
    """All installed formats by name; importing them brings in neither TensorFlow nor numpy."""
    found: dict[str, Format] = {}
    for point in sorted(entry_points(group=FORMATS_GROUP), key=lambda point: point.name):
        try:
            found[point.name] = point.load()()
        except ImportError as error:
            what, hint = f"the format {point.name} can't be loaded: {error}", "install its package again, or remove it"
            raise SecateurError(what, where=point.value, hint=hint) from error
    return MappingProxyType(found)


def format_of(axis: str | None) -> Format:
    """The format that an axis (`onnx/int8@cpu`) begins with; KeyError where none of that name is installed."""
    return formats()[str(axis).partition("/")[0]]


def format_of_kind(kind: Kind) -> Format:
    """The format whose files are of this kind; DeviceError where none is installed."""
    for found in formats().values():
        if found.kind == kind:
            return found
    raise DeviceError(f"no installed format has files of kind {kind}", hint="secateur doctor lists what is installed")


def _named(axis: str | None) -> Format | None:
    return formats().get(str(axis).partition("/")[0])


def made_by_all(table: Callable[[Format], Sequence[str]]) -> tuple[str, ...]:
    """What `table` gives for all formats, each once."""
    return tuple(dict.fromkeys(chain.from_iterable(map(table, formats().values()))))


def packages_that_make(axis: str | None) -> tuple[str, ...]:
    """The packages whose versions decide the bytes of an export; of all formats where `axis` names none."""
    found = _named(axis)
    return made_by_all(lambda one: one.packages) if found is None else found.packages


def packages_that_run(axis: str | None) -> tuple[str, ...]:
    """The packages whose versions decide what a file computes and costs; of all formats where `axis` names none."""
    found = _named(axis)
    return made_by_all(lambda one: one.runtime_packages) if found is None else found.runtime_packages


def kinds_that(capability: type[Any]) -> tuple[Kind, ...]:
    """The kinds of all formats that have a capability: a Protocol of `stages.formats.format`."""
    return tuple(found.kind for found in formats().values() if isinstance(found, capability))


def names_one_that(capability: type[Any]) -> AfterValidator:
    """The check that a setting names an installed format which has a capability."""

    def check(name: str) -> str:
        known = [found.name for found in formats().values() if isinstance(found, capability)]
        if name not in known:
            expected = " or ".join(repr(one) for one in known)
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return name

    return AfterValidator(check)


def running_kinds() -> tuple[Kind, ...]:
    """The kinds whose files run on this machine, as they are or by the file that they hold."""
    return tuple(dict.fromkeys((*kinds_that(Runs), *kinds_that(HoldsAnother))))


def load_exported(kind: Kind, model: bytes | Path, threads: int = 1) -> LoadedModel:
    """The file of an exported artifact in its runtime; DeviceError where nothing here runs it, or the runtime refuses.

    A model of several files is a path, the others in the same folder. `threads` of 0 leaves their number to the
    runtime.
    """
    found = format_of_kind(kind)
    if isinstance(found, HoldsAnother):
        data = model if isinstance(model, bytes) else model.read_bytes()
        return load_exported(formats()[found.holds].kind, found.held(data), threads)
    if not isinstance(found, Runs):
        raise DeviceError(f"nothing on this machine runs a {kind}")
    return found.load(model, threads)


def shows_tensors(kind: Kind) -> ShowsTensors:
    """The format of a kind whose tensors can be looked at; DeviceError of any other."""
    found = format_of_kind(kind)
    if not isinstance(found, ShowsTensors):
        raise DeviceError(f"the runtime of {found.name} files does not show what their operators compute")
    return found


def file_tensors(kind: Kind, model: bytes | Path, arrays: Mapping[str, Any]) -> list[FileTensor]:
    """All tensors that operators make of one batch, real-valued ones only; DeviceError if the runtime fails.

    They are made without what runtimes fuse and delegate, which leaves no tensor behind. `arrays` go in by name, as
    many samples as the file takes at once.
    """
    found = shows_tensors(kind)
    with quiet():
        try:
            return list(found.tensors(model, arrays))
        except Exception as error:  # ONNX Runtime's errors have no common base but Exception
            raise DeviceError(f"the file does not run with its tensors kept: {error}") from error


def recognise(path: Path) -> Format:
    """The format of a model file, by its content; RecipeError where it is none, ModelError where it is damaged."""
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise ModelError("the file is empty", where=str(path))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for found in formats().values():
                    if found.recognises(data):
                        return found
    except OSError as error:
        raise RecipeError(f"the file can't be read: {error.strerror or error}", where=str(path)) from error
    except ModelError as error:
        raise ModelError(error.what, where=error.where or str(path), hint=error.hint) from error
    hint = "`secateur run` exports Keras models; here the exported files are compared"
    known = " nor ".join(found.name for found in formats().values() if isinstance(found, Runs))
    raise RecipeError(f"the file is neither {known}, or it is damaged", where=str(path), hint=hint)


def files_beside(model: Path) -> tuple[Path, ...]:
    """The files in a model file's folder that belong to it, in the order of their names; none for most."""
    if not model.stat().st_size:
        return ()  # what runs it will say that it is no model
    try:
        found = recognise(model)
    except RecipeError:  # so here
        return ()
    return found.beside(model)


def whole_model(kind: Kind, names: Sequence[str], read: Callable[[str], Path], folder: Path) -> Path:
    """The path of a model, the first of the `names` of its files, with the others in the same folder.

    `read` gives the path of each. A model of one file stays where it is, files of others are linked into `folder`:
    hard links, which cost nothing, since ONNX Runtime follows no symbolic link out of a folder.
    ModelError where the model wants a file that is not among them.
    """
    if len(names) == 1:
        return read(names[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        link_file(read(name), folder / name)
    model = folder / names[0]
    format_of_kind(kind).beside(model)
    return model


def model_digest(own: str, beside: Mapping[str, str]) -> str:
    """The digest of a model file, and where there are files beside it (name to digest) over all of them."""
    return digest_of("model-files", [own, dict(beside)]) if beside else own


def link_file(source: Path, target: Path) -> None:
    """`source` under another name: a hard link, or a copy where the file system has none."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        partial = target.with_name(f".{target.name}")
        shutil.copyfile(source, partial)
        partial.replace(target)
