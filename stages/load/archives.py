"""Check that an archive from elsewhere is safe to open: no escape from its folder, no excessive sizes, no other files.

Zip members could be named `../…` or be links; HDF5 links, virtual and external datasets could expose other files of
this machine as weights; both could unpack to any size. All of this is checked on the archive's own declarations before
any of it is read; a zip member that turns out longer than declared is cut there, and fails by its checksum.
"""

from __future__ import annotations

import re
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.recipe.model_files import files_in

if TYPE_CHECKING:
    from h5py import File as H5File

TIMES, LEAST_BYTES = 100, 256 * 2**20  # what an archive may unpack to: 100 times its size, or this if that is more
TEXT_BYTES = 64 * 2**20  # a configuration; NASNet's has 1 MB
MEMBERS = 100_000
TOO_LARGE = "sizes are bounded, so that no file fills memory or disk; is this file what you think it is?"


def refuse_large_text(size: int, path: Path) -> None:
    """Raise ModelError if a configuration has more bytes than any model needs."""
    if size > TEXT_BYTES:
        raise ModelError(f"its configuration has {size:,} bytes", where=str(path), hint=TOO_LARGE)


def check_zip(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise ModelError if a member would leave the folder, is not a plain file, or if all of them are too much."""
    members = archive.infolist()
    _check_sizes(sum(member.file_size for member in members), len(members), path)
    names = set[str]()
    for member in members:
        # The upper half of the attributes is the Unix mode; it is 0 in archives that hold none.
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        # Backslashes and drive letters lead out of a folder on Windows.
        if name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
            raise _malicious(f"its member {name!r} would be written outside of its folder", path)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _malicious(f"its member {name!r} is a link or a special file", path)
        # What is checked here would be one of them, and what Keras reads the other.
        if name in names:
            raise _malicious(f"it has two members {name!r}", path)
        # The first flag bit of a zip member says that it is encrypted.
        if member.flag_bits & 1:
            raise ModelError(f"its member {name!r} is encrypted", where=str(path), hint="decrypt the archive")
        names.add(name)


def check_hdf5(file: H5File, path: Path) -> None:
    """Raise ModelError if an open HDF5 file exposes other files, holds links, or would unpack to too much."""
    import h5py

    groups, seen, size = [file], set[Any](), 0
    while groups:
        group = groups.pop()
        for name in group:
            # Asked before the object is opened: opening a link follows it.
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _malicious(f"{group.name}/{name} in it is a link, which may lead into another file", path)
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            # Groups may be linked into each other in a circle.
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    raise _malicious(f"{item.name} in it takes its values from another file", path)
                size += int(item.size or 0) * item.dtype.itemsize
            _check_sizes(size, len(seen), path)


def _check_sizes(size: int, count: int, path: Path) -> None:
    bound = max(TIMES * path.stat().st_size, LEAST_BYTES)
    if size > bound or count > MEMBERS:
        what = f"it would unpack to {size:,} bytes in {count:,} parts" + (
            f"; at most {bound:,} are read" if size > bound else ""
        )
        raise ModelError(what, where=str(path), hint=TOO_LARGE)


def _malicious(what: str, path: Path) -> ModelError:
    return ModelError(f"the file is not safe to read: {what}", where=str(path), hint="Keras writes no such file")


def check_files(folder: Path) -> None:
    """Raise ModelError if a folder holds links or special files."""
    for _ in files_in(folder):
        pass
