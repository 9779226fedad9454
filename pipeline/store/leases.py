"""Protect what a process uses in a store from collection, for as long as the process lives.

    <store>/leases/lock  leases/ID.lock  leases/ID.txt

A lease is `ID.lock`, under a lock that the kernel releases when its process ends, and `ID.txt`, the names of what that
process uses, a line each: `<key>`, `sha256:<hex>`, `run:<id>`, `recipe:<name>`. A name is noted and looked up in one
step under a shared lock on `leases/lock`; a collection holds it exclusively, so it sees every name whose owner has
found something, and removes nothing between the two.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store.files import PROCESS, store_errors

FOLDER = "leases"
WAIT_S, LOOK_S = 60.0, 0.02
MODE = 0o666  # less the umask, as for all files of the store
UNPROTECTED = {  # a reader's store, a file system without locks, a file in the folder's place: work needs no lease
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
}


@dataclass
class _Held:
    """Hold this process's lease of one store; `handle` is its locked file once there is a store to put it in."""

    count: int = 0
    names: set[str] = field(default_factory=set)
    handle: int | None = None
    impossible: bool = False


# By the store's real path, for the process as a whole: a study and the runs inside it open the store again and again.
_held: dict[str, _Held] = {}
# Also around the file locks: over NFS, closing a file in one thread would release a lock of another.
_mutex = threading.RLock()
_alone: dict[str, int] = {}  # the thread that collects now, by the store's real path


class Leases:
    """Manage the leases of one store; without `hold` nothing is noted and nothing is written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / FOLDER
        self.lock = self._folder / "lock"  # between users and collections
        self._real = os.path.realpath(root)

    @contextmanager
    def hold(self, *names: str) -> Iterator[None]:
        """Protect `names`, and all that this process uses in this store from now on, until the context ends."""
        with _mutex:
            held = _held.setdefault(self._real, _Held())
            held.count += 1
        try:
            for name in names:
                with self.using(name):
                    pass
            yield
        finally:
            with _mutex:
                held.count -= 1
                if held.count == 0:
                    del _held[self._real]
                    self._end(held)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Note what is about to be looked up, made or begun; until the context ends, no collection removes anything."""
        held = _held.get(self._real)
        # A name that is noted is protected already, and a collection would wait for its own lock.
        if held is None or name in held.names or _alone.get(self._real) == threading.get_ident():
            yield
            return
        with ExitStack() as stack:
            with store_errors(self._folder):
                if self._begin(held):
                    stack.enter_context(_mutex)
                    stack.enter_context(self._lock(fcntl.LOCK_SH))
                    # Opened and closed each time: a network file system shows other machines what was written at
                    # closing.
                    with self._names_file(PROCESS).open("a") as file:
                        file.write(f"{name}\n")
                    held.names.add(name)
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads and processes from looking up anything new; StoreError if the store can't be locked."""
        with ExitStack() as stack:
            with store_errors(self._folder):
                stack.enter_context(_mutex)
                self._folder.mkdir(exist_ok=True)
                stack.enter_context(self._lock(fcntl.LOCK_EX, wait_s=WAIT_S))
            _alone[self._real] = threading.get_ident()
            stack.callback(_alone.pop, self._real)
            yield

    def live(self) -> dict[str, frozenset[str]]:
        """Return what each living process uses, by its ID."""
        ids = (path.stem for path in self._folder.glob("*.lock"))
        return {name: self._names(name) for name in ids if self._lives(name)}

    def files(self) -> list[Path]:
        """Return the files of all leases."""
        return [path for path in self._folder.glob("*.*") if path.suffix in (".lock", ".txt")]

    @property
    def last_collection(self) -> float | None:
        """Return when a collection ended, in seconds since the epoch; None if none ever did."""
        with suppress(OSError):
            return self._mark.stat().st_mtime
        return None

    def mark_collection(self) -> None:
        """Note that a collection ended now."""
        with store_errors(self._mark):
            self._mark.touch()

    @property
    def _mark(self) -> Path:
        return self._folder / "collected"

    def _begin(self, held: _Held) -> bool:
        """Return whether this process has its lease, which is created now if it can be."""
        with _mutex:
            # In a store that does not exist yet there is nothing to protect.
            if held.handle is None and not held.impossible and (self._root / "VERSION").exists():
                try:
                    self._folder.mkdir(exist_ok=True)
                    # Otherwise a collection could take the file for a dead process's before it is locked.
                    with self._lock(fcntl.LOCK_SH):
                        held.handle = _locked(self._lock_file(PROCESS), fcntl.LOCK_EX)
                        self._names_file(PROCESS).touch()
                except OSError as error:
                    if error.errno not in UNPROTECTED:
                        raise
                    held.impossible = True
            return held.handle is not None

    def _end(self, held: _Held) -> None:
        if held.handle is not None:
            # What can't be removed goes with the next collection.
            with suppress(OSError):
                self._lock_file(PROCESS).unlink()
                self._names_file(PROCESS).unlink()
            os.close(held.handle)

    @contextmanager
    def _lock(self, kind: int, wait_s: float | None = None) -> Iterator[None]:
        """Hold the lock between users and collections; StoreError after `wait_s`."""
        began, handle = time.monotonic(), os.open(self.lock, os.O_RDWR | os.O_CREAT, MODE)
        try:
            while True:
                try:
                    fcntl.flock(handle, kind if wait_s is None else kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError as busy:
                    if wait_s is not None and time.monotonic() - began > wait_s:
                        what = "another process keeps the store locked"
                        hint = "another collection is going on, or a process is stopped: try again later"
                        raise StoreError(what, where=str(self.lock), hint=hint) from busy
                    time.sleep(LOOK_S)
            yield
        finally:
            os.close(handle)

    def _lives(self, name: str) -> bool:
        # Not probed: over NFS, closing the file again would release our own lock.
        if name == PROCESS and self._real in _held:
            return True
        try:
            os.close(_locked(self._lock_file(name), fcntl.LOCK_SH))
        except FileNotFoundError:
            return False
        except OSError:  # held, or one that this user may not ask about
            return True
        return False

    def _names(self, name: str) -> frozenset[str]:
        with suppress(OSError):
            return frozenset(self._names_file(name).read_text().splitlines())
        return frozenset()

    def _lock_file(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def _names_file(self, name: str) -> Path:
        return self._folder / f"{name}.txt"


def is_free(lock: Path) -> bool:
    """Return whether nobody holds the lock on this file, or it is not there."""
    try:
        os.close(_locked(lock, fcntl.LOCK_SH))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_free(lock: Path) -> bool:
    """Remove a lock file that nobody holds; return whether it was removed. Raises OSError."""
    try:
        # Held while its name goes: who opened it before sees that it has none any more, and opens it again.
        handle = _locked(lock, fcntl.LOCK_EX)
    except BlockingIOError:
        return False
    try:
        lock.unlink(missing_ok=True)
    finally:
        os.close(handle)
    return True


def _locked(path: Path, kind: int) -> int:
    """Open and lock a file and return its handle; BlockingIOError if another process holds it."""
    # A shared lock is for asking only: it needs no right to write and creates nothing.
    handle = os.open(path, os.O_RDONLY if kind == fcntl.LOCK_SH else os.O_RDWR | os.O_CREAT, MODE)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle
