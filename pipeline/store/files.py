"""Publish a file whole or not at all, and translate what the operating system may raise."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StoreError

# At import, while there is one thread: between these two lines any thread would create files that all can write.
UMASK = os.umask(0)
os.umask(UMASK)  # it can only be read by setting it
PROCESS = secrets.token_hex(8)  # names this process in a store: its lease, its temporary files
HINTS = {
    errno.ENOSPC: "the disk is full: free space, or give another --store; what is finished stays cached",
    errno.EDQUOT: "the disk quota is used up: free space, or give another --store; what is finished stays cached",
    errno.EFBIG: "the file is larger than this process may write: raise the limit (ulimit -f)",
    errno.EACCES: "no permission: check the folder's owner and mode, or give another --store",
    errno.EPERM: "no permission: check the folder's owner and mode, or give another --store",
    errno.EROFS: "the file system is read-only: give another --store",
    errno.ENOTDIR: "a part of the path is a file: give another --store",
    errno.EEXIST: "a part of the path is a file: give another --store",
}


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the store can't be used: {(error.strerror or str(error)).lower()}",
            where=str(error.filename or path),
            hint=HINTS.get(error.errno or 0, "check the disk, or give another --store"),
        ) from error


def publish(target: Path, data: bytes | memoryview, scratch: Path) -> None:
    """Write `data` to `target` through a unique temporary file in `scratch` (same file system): sync, then rename.

    Raises OSError; then neither `target` nor the temporary file is there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=scratch, prefix=f"{PROCESS}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~UMASK)  # temporary files are private, a store may be shared
            # Before the rename: after a power cut the name could otherwise exist without the bytes.
            os.fsync(file.fileno())
        Path(name).replace(target)
    # Also at Ctrl-C: otherwise the file would stay until the next collection.
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut (POSIX: a folder is synced by itself)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
