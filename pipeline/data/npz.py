"""Read npz files: `x_NAME` are a split's inputs, `y_NAME` its targets, if any.

`x_NAME__INPUT` are the inputs of a model with several, `y_NAME__OUTPUT` the targets of several outputs, or of one by
its name. Arrays that are not compressed are read on demand, so that memory does not grow with them.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.data.declaration import Opening, PathSettings, Source
from pipeline.data.npz_rows import array_shape, stored_rows
from pipeline.data.table import Shapes, Table, train_first
from pipeline.errors import DataError
from pipeline.records.keys import CHUNK_BYTES, digest_of
from pipeline.store.file_digests import FileDigests
from pipeline.system.memory import usable_bytes

ZIP = b"PK\x03\x04"  # how the file begins
# What zipfile raises on damaged archives: the last three for streams, methods and flags that it does not know.
UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError)
MEMBERS_HINT = (
    "an npz holds x_NAME (inputs), or x_NAME__INPUT for several, and y_NAME (targets), or y_NAME__OUTPUT for several, "
    "for each split NAME"
)
ABSENT = "absent"
SHOWN_MEMBERS = 12
DRAWN = ("test", "validation")  # splits that can be drawn where none is stored
HELD_BYTES = 64 * 2**20  # inputs up to this size are kept in memory however they are stored
HELD_SHARE = 0.5  # of the memory that may be used here, for arrays that can only be kept there


class NpzFile:
    """Read the arrays of one file. Digests cover decompressed bytes: how the file was zipped does not matter."""

    def __init__(self, path: Path, digests: FileDigests) -> None:
        self._path = path
        self._digests = digests

    def content(self, stored: str, *, anew: bool = False) -> dict[str, Any]:
        # Anew means whatever the file's state says: arrays in memory are read once, so no later reading would show a
        # difference.
        look_up = self._digests.computed if anew else self._digests.remembered
        digests = {
            part: look_up(self._path, f"{part}_{stored}.npy", partial(self._digest, f"{part}_{stored}"))
            for part in ("x", "y")
        }
        if digests["x"] == ABSENT:
            raise self._without(stored)
        return digests if digests["y"] != ABSENT else {"x": digests["x"]}

    def shapes(self, stored: str) -> Shapes | None:
        alone = {"": f"x_{stored}"} if f"x_{stored}" in self._members() else {}
        named = self._named(f"x_{stored}__") or alone
        if not named:
            return None
        try:
            return {name: array_shape(self._path, f"{member}.npy")[1:] for name, member in named.items()}
        except (KeyError, ValueError, *UNREADABLE) as error:
            raise self._error(f"x_{stored} can't be read: {error}") from error

    def splits(self) -> dict[str, bool]:
        """Return which splits' inputs are stored, `train` first, with whether targets are; DataError without it."""
        members = self._members()
        names = {name[2:].partition("__")[0] for name in members if name.startswith("x_")}
        if "train" not in names:
            raise self._without("train")
        labelled = {name[2:].partition("__")[0] for name in members if name.startswith("y_")}
        return {name: name in labelled for name in train_first(names)}

    def _without(self, stored: str) -> DataError:
        """Return the error that tells what the file holds instead of a split's inputs."""
        members = sorted(self._members())
        held = ", ".join(members[:SHOWN_MEMBERS]) + (", …" if len(members) > SHOWN_MEMBERS else "")
        what = f"the file holds no inputs x_{stored}: it has {held or 'no arrays at all'}"
        if f"y_{stored}" in members or self._named(f"y_{stored}__"):
            what = f"the file holds targets y_{stored} and no inputs x_{stored}: it has {held}"
        splits = sorted({name.removeprefix("x_").partition("__")[0] for name in members if name.startswith("x_")})
        if not splits:
            return self._error(what)
        drawn = f", or let a part of train be drawn: `{stored}: {{fraction: 0.2}}`" if stored in DRAWN else ""
        return DataError(what, where=str(self._path), hint=f"splits that are there: {', '.join(splits)}{drawn}")

    def read(self, stored: str) -> Table:
        named = self._named(f"x_{stored}__")
        if named and f"x_{stored}" in self._members():
            raise self._error(f"the file holds x_{stored} and {next(iter(named.values()))}: which are the inputs?")
        inputs: Any = {name: self._inputs(member) for name, member in named.items()} or self._inputs(f"x_{stored}")
        first = next(iter(inputs.values())) if named else inputs
        member = next(iter(named.values()), f"x_{stored}")
        for name in named:
            if len(inputs[name]) != len(first):
                what = f"{member} has {len(first)} samples, {named[name]} has {len(inputs[name])}"
                raise self._error(what)
        return Table(inputs, self._targets(stored, len(first), member))

    def _targets(self, stored: str, samples: int, member: str) -> Any:
        """Return one array, or several by output name, or None; `member` holds the inputs, with `samples` rows."""
        named = self._named(f"y_{stored}__")
        alone = {"": f"y_{stored}"} if f"y_{stored}" in self._members() else {}
        if named and alone:
            raise self._error(f"the file holds y_{stored} and {next(iter(named.values()))}: which are the targets?")
        by_name = {name: self._array(member) for name, member in (named or alone).items()}
        for name, targets in by_name.items():
            if not targets.ndim or len(targets) != samples:
                count = len(targets) if targets.ndim else "no"
                raise self._error(f"{member} has {samples} samples, {(named or alone)[name]} has {count} labels")
        return by_name if named else by_name.get("")

    def _inputs(self, member: str) -> Any:
        """Return an array, or a reader of one in the file; DataError if it has no rows of numbers."""
        x = self._rows(member)
        if x is None:
            x = self._array(member)
        if x.dtype.kind not in "biuf" or not x.shape:
            raise self._error(f"{member} is {x.dtype} of shape {x.shape}: numbers are needed, one row a sample")
        return x

    def _rows(self, member: str) -> Any:
        try:
            if self._size(member) <= HELD_BYTES:
                return None
            return stored_rows(self._path, f"{member}.npy")
        except (KeyError, ValueError, *UNREADABLE) as error:
            raise self._error(f"{member} can't be read: {error}") from error

    def _size(self, member: str) -> int:
        """Return the unpacked size of a member in bytes."""
        with zipfile.ZipFile(self._path) as archive:
            return archive.getinfo(f"{member}.npy").file_size

    def _array(self, member: str) -> Any:
        import numpy as np

        try:
            size, most = self._size(member), int(HELD_SHARE * usable_bytes())
            # Asked before it is unpacked: a small file can hold zeros for more than there is memory.
            if size <= most:
                # A pickle in the file would run whatever its author wrote.
                with np.load(self._path, allow_pickle=False) as archive:
                    return archive[member]
        except (KeyError, ValueError, *UNREADABLE) as error:
            raise self._error(f"{member} can't be read: {error}") from error
        raise DataError(
            f"{member} takes {size / 2**30:.1f} GiB and could only be held in memory, of which it may have "
            f"{HELD_SHARE:.0%} ({most / 2**30:.1f} GiB)",
            where=str(self._path),
            hint="store it with np.savez, uncompressed and in C order: inputs are then read when they are asked for",
        )

    def _digest(self, member: str) -> str:
        """Return the digest of a member; of all its parts if an input name follows; `absent` if there is none."""
        parts = self._named(f"{member}__")
        if parts:
            return digest_of("inputs", {name: member_digest(self._path, f"{part}.npy") for name, part in parts.items()})
        return member_digest(self._path, f"{member}.npy") if member in self._members() else ABSENT

    def _named(self, prefix: str) -> dict[str, str]:
        members = sorted(member for member in self._members() if member.startswith(prefix))
        return {member.removeprefix(prefix): member for member in members}

    def _members(self) -> set[str]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
        except UNREADABLE as error:
            raise _damaged(self._path, error) from error

    def _error(self, what: str) -> DataError:
        return DataError(what, where=str(self._path), hint=MEMBERS_HINT)


def member_digest(path: Path, member: str) -> str:
    """Return the sha256 of the decompressed bytes of one member of a zip file, as hexadecimal digits."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except UNREADABLE as error:
        raise _damaged(path, error) from error
    return digest.hexdigest()


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"the file is damaged: {error}", where=str(path), hint="get it again: it is not a complete npz")


def _open(opening: Opening[PathSettings]) -> NpzFile:
    return NpzFile(opening.path, opening.digests)


SOURCE = Source(PathSettings, _open, takes="a file", recognises=lambda begin: begin.startswith(ZIP))
