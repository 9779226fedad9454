"""Find the installed formats, and select one by a file, a kind or a name."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import AfterValidator

from pipeline.errors import DeviceError, ModelError, RecipeError
from pipeline.records.artifacts import Kind
from pipeline.records.declared import require_declared
from pipeline.records.keys import digest_of
from pipeline.system.installed import package_version
from pipeline.system.plugins import instances_of, require_installed
from pipeline.system.quiet import quiet
from stages.formats.format import (
    Arrays,
    FileTensor,
    Format,
    HoldsAnother,
    LoadedModel,
    NeedsPackage,
    PinsRuntime,
    Runs,
    ShowsTensors,
)

FORMATS_GROUP = "secateur.formats"
Entry = TypeVar("Entry")


@cache
def formats() -> Mapping[str, Format]:
    """Return all installed formats by name; importing them imports neither TensorFlow nor numpy."""
    instances: Mapping[str, Format] = instances_of(FORMATS_GROUP, "format")
    for name, instance in instances.items():
        require_declared(f"the format {name}", instance.metrics)
    # Sorted: the order of entry points follows from that of the installed packages, and differs between machines.
    return MappingProxyType(dict(sorted(instances.items())))


def format_of(axis: str | None) -> Format:
    """Return the format that an axis (`onnx/int8@cpu`) begins with; KeyError if none of that name is installed."""
    return formats()[str(axis).partition("/")[0]]


def format_of_kind(kind: Kind) -> Format:
    """Return the format whose files are of this kind; DeviceError if none is installed."""
    for file_format in formats().values():
        if file_format.kind == kind:
            return file_format
    raise DeviceError(f"no installed format has files of kind {kind}", hint="secateur doctor lists what is installed")


def missing_package(found: Format) -> str | None:
    """Return the package that a format is made with, if it is not installed."""
    needs = found.extra_package if isinstance(found, NeedsPackage) else None
    return needs if needs is not None and package_version(needs) == "absent" else None


def pinned_by_format(axis: str | None) -> dict[str, str]:
    """Return what the format that an axis begins with pins in its runtime, by the format's name and the setting's."""
    file_format = _named(axis)
    return (
        {f"{file_format.name}.{key}": value for key, value in file_format.pinned().items()}
        if isinstance(file_format, PinsRuntime)
        else {}
    )


def _named(axis: str | None) -> Format | None:
    return formats().get(str(axis).partition("/")[0])


def of_all_formats(table: Callable[[Format], Sequence[Entry]]) -> tuple[Entry, ...]:
    """Return what `table` gives for all formats, each entry once."""
    return tuple(dict.fromkeys(chain.from_iterable(map(table, formats().values()))))


def packages_that_make(axis: str | None) -> tuple[str, ...]:
    """Return the packages whose versions determine the bytes of an export; of all formats if `axis` names none."""
    file_format = _named(axis)
    return of_all_formats(lambda each: each.packages) if file_format is None else file_format.packages


def packages_that_run(axis: str | None) -> tuple[str, ...]:
    """Return the packages whose versions determine a file's results and cost; of all formats if `axis` names none."""
    file_format = _named(axis)
    return of_all_formats(lambda each: each.runtime_packages) if file_format is None else file_format.runtime_packages


@cache
def kinds_that(capability: type[Any]) -> tuple[Kind, ...]:
    """Return the kinds of all formats that have a capability: a Protocol of `stages.formats.format`."""
    return tuple(file_format.kind for file_format in formats().values() if isinstance(file_format, capability))


def names_one_that(capability: type[Any]) -> AfterValidator:
    """Return a validator that a setting names an installed format with a capability."""

    def check(name: str) -> str:
        return require_installed(
            name, (file_format.name for file_format in formats().values() if isinstance(file_format, capability))
        )

    return AfterValidator(check)


def running_kinds() -> tuple[Kind, ...]:
    """Return the kinds whose files run on this machine, directly or by the file that they hold."""
    return tuple(dict.fromkeys((*kinds_that(Runs), *kinds_that(HoldsAnother))))


def load_exported(kind: Kind, model: bytes | Path, threads: int = 1) -> LoadedModel:
    """Load an exported file in its runtime; DeviceError if no runtime here runs it, or the runtime refuses it.

    A model of several files is a path, the others in the same folder. `threads` of 0 leaves their number to the
    runtime.
    """
    file_format = format_of_kind(kind)
    if isinstance(file_format, HoldsAnother):
        data = model if isinstance(model, bytes) else model.read_bytes()
        return load_exported(formats()[file_format.holds].kind, file_format.held(data), threads)
    if not isinstance(file_format, Runs):
        raise DeviceError(f"nothing on this machine runs a {kind}")
    return file_format.load(model, threads)


def shows_tensors(kind: Kind) -> ShowsTensors:
    """Return the format of a kind whose tensors can be inspected; DeviceError for any other."""
    file_format = format_of_kind(kind)
    if not isinstance(file_format, ShowsTensors):
        raise DeviceError(f"the runtime of {file_format.name} files does not show what their operators compute")
    return file_format


def file_tensors(kind: Kind, model: bytes | Path, arrays: Arrays) -> list[FileTensor]:
    """Return all real-valued operator outputs for one batch; DeviceError if the runtime fails.

    The file runs without fusion and delegates, which would hide tensors. `arrays` are inputs by name, as many samples
    as the file takes at once.
    """
    file_format = shows_tensors(kind)
    with quiet():
        try:
            return list(file_format.tensors(model, arrays))
        except Exception as error:  # ONNX Runtime's errors have no common base but Exception
            raise DeviceError(f"the file does not run with its tensors kept: {error}") from error


def recognise(path: Path) -> Format:
    """Return the format of a model file, by its content; RecipeError if it is not one, ModelError if it is damaged."""
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:  # it can't be mapped
                raise ModelError("the file is empty", where=str(path))
            # Mapped and not read: a file is recognized, or refused, at once whatever its size.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for file_format in formats().values():
                    if file_format.recognises(data):
                        return file_format
    except OSError as error:
        raise RecipeError(f"the file can't be read: {error.strerror or error}", where=str(path)) from error
    except ModelError as error:
        raise ModelError(error.what, where=error.where or str(path), hint=error.hint) from error
    hint = "`secateur run` exports Keras models; here the exported files are compared"
    known = " nor ".join(file_format.name for file_format in formats().values() if isinstance(file_format, Runs))
    raise RecipeError(f"the file is neither {known}, or it is damaged", where=str(path), hint=hint)


def files_beside(model: Path) -> tuple[Path, ...]:
    """Return the files in a model file's folder that belong to it, sorted by name; none for most."""
    if not model.stat().st_size:
        return ()  # its runtime will report that it is not a model
    try:
        file_format = recognise(model)
    except RecipeError:  # here too
        return ()
    return file_format.beside(model)


def whole_model(kind: Kind, names: Sequence[str], read: Callable[[str], Path], folder: Path) -> Path:
    """Return the path of a model, the first of the `names` of its files, with the others in the same folder.

    `read` returns the path of each. A model of one file stays where it is, files of others are linked into `folder`:
    hard links, which cost nothing, since ONNX Runtime follows no symbolic link out of a folder. ModelError if the model
    needs a file that is not among them.
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
    """Return the digest of a model file, or over all files if there are some `beside` it (name to digest)."""
    return digest_of("model-files", [own, dict(beside)]) if beside else own


def link_file(source: Path, target: Path) -> None:
    """Link `source` under another name: a hard link, or a copy if the file system has none."""
    # `os.link` does not replace, and a killed run may have left the name.
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        # Copied under another name first: a copy that was killed half-way must not look like a whole model.
        partial = target.with_name(f".{target.name}")
        shutil.copyfile(source, partial)
        partial.replace(target)
