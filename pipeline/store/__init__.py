"""Keep artifacts: blobs by content, records by key, runs by id, scratch and locks by key.

    <store>/VERSION  blobs/sha256/<hex>  actions/sha256/<ab>/<key>.json  runs/<id>/manifest.json
            work/<key>/  locks/<key>.lock  refs/<run id>  leases/  quarantine/  tmp/  file-digests.json

Invariants: a name under `blobs/` or `actions/` exists only with all its bytes (temporary file, fsync, rename, fsync of
the folder); a record is written after every blob that it names; what fails verification is moved to `quarantine/` and
counts as missing; what `pipeline.store.gc` removes was named by nothing that it keeps.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from pipeline.errors import StoreError
from pipeline.store.blobs import QUARANTINE, Blobs, make_way, put_file
from pipeline.store.contents import has_progress
from pipeline.store.file_digests import FileDigests
from pipeline.store.files import store_errors
from pipeline.store.leases import FOLDER as LEASES
from pipeline.store.leases import Leases
from pipeline.store.pins import FOLDER as PINS
from pipeline.store.pins import Pins
from pipeline.store.records import Records
from pipeline.store.runs import Runs

STORE_VARIABLE = "SECATEUR_STORE"  # environment variable, used if the command line names no store
FORMAT_VERSION = "1"
FOLDERS = ("tmp", "blobs", "actions", "runs", "studies", "work", "locks", PINS, LEASES)
MEMORIES = ("file-digests.json", "file-digests")
# A file system of its own has `lost+found` at its root; emulated targets and our benchmarks keep the other two in the
# default store's folder.
NEIGHBORS = ("lost+found", "targets", "benchmarks")


def default_store() -> Path:
    """Return `~/.cache/secateur` on Linux, its equivalent elsewhere (the command line also reads `SECATEUR_STORE`)."""
    return platformdirs.user_cache_path("secateur", appauthor=False)


class Store:
    """Open a store at a folder. Opening an absent one for reading gives an empty store and touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.leases = Leases(root)
        self.blobs = Blobs(root, self.leases)
        self.records = Records(root, self.blobs, self.leases)
        self.runs = Runs(root, self.leases)
        self.pins = Pins(root)
        self._check_version()

    def _check_version(self) -> None:
        marker = self.root / "VERSION"
        with store_errors(self.root):
            if self.root.exists() and not self.root.is_dir():
                raise StoreError("the store is not a folder", where=str(self.root), hint="give another --store")
            version = _version_in(marker)
            # Before the marker is asked for again: another process may be creating this store, and its VERSION would
            # look foreign.
            entries = {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
            known = {*FOLDERS, *NEIGHBORS, *MEMORIES, QUARANTINE, marker.name}
            # A store can lose its marker, or have it damaged. Other programs have a file of this name as well.
            begun = marker.name not in entries or bool(entries & set(FOLDERS))
            foreign = version is None and (bool(entries - known) or not begun)
        if version not in (FORMAT_VERSION, None):
            raise StoreError(
                f"the store has format {version!r}, this secateur knows {FORMAT_VERSION}",
                where=str(marker),
                hint="use the secateur that wrote it, or give another --store",
            )
        if foreign:
            raise StoreError(
                "the folder is not a store, and it is not empty", where=str(self.root), hint="give an empty --store"
            )

    def create(self) -> None:
        """Make the folder a store if it is not one yet; StoreError if that can't be done."""
        with store_errors(self.root):
            for name in FOLDERS:
                make_way(self.root, self.root / name, folder=True)
                (self.root / name).mkdir(parents=True, exist_ok=True)
            make_way(self.root, self.leases.lock)
            # VERSION comes last. A process killed before it leaves only known folders, which count as a store that was
            # begun.
            if _version_in(self.root / "VERSION") is None:
                put_file(self.root, self.root / "VERSION", f"{FORMAT_VERSION}\n".encode())

    @property
    def file_digests(self) -> Path:
        """Return the remembered digests of the files that recipes name."""
        return self.root / MEMORIES[0]

    def remember(self, digests: FileDigests) -> None:
        """Save the digests that were computed, for later runs."""
        with store_errors(self.file_digests):
            make_way(self.root, self.file_digests.with_suffix(""), folder=True)
            for path in (self.file_digests, *self.file_digests.with_suffix("").glob("*")):
                make_way(self.root, path)
            digests.save(self.root / "tmp")

    def work_dir(self, key: str) -> Path:
        """Return where an action keeps what lets it resume; made by `create_work_dir`."""
        return self.root / "work" / key

    def create_work_dir(self, key: str) -> Path:
        """Create the scratch folder of an action and return it."""
        folder = self.work_dir(key)
        with store_errors(folder):
            make_way(self.root, folder, folder=True)
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remove_work_dir(self, key: str) -> None:
        """Delete an action's scratch: its record exists, so nobody will resume it."""
        # Errors are ignored because the action is committed: what can't be deleted only takes space.
        shutil.rmtree(self.work_dir(key), ignore_errors=True)

    def can_resume(self, key: str) -> bool:
        """Return whether a killed run left something to resume from."""
        return has_progress(self.work_dir(key))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the exclusive lock on this action; raises BusyError at once if another process holds it."""
        from filelock import FileLock, Timeout  # only runs that do work need locks, and it is slow to import

        path = self.root / "locks" / f"{key}.lock"
        # An flock: the kernel releases it when its process dies, so a killed run blocks nobody.
        lock = FileLock(path)
        # Under the lease: the collection removes lock files that nobody holds.
        with self.leases.using(key), store_errors(path):
            make_way(self.root, path)
            try:
                # Not waiting here lets the caller tell the user first that another process is at work (`Waiting`).
                lock.acquire(timeout=0)
            except Timeout as busy:
                raise BusyError(path) from busy
        try:
            yield
        finally:
            lock.release()

    def wait(self, key: str) -> None:
        """Wait until nobody holds the lock of this action."""
        from filelock import FileLock

        # Holding the lock means nothing here. Whoever waited looks for a record next, and locks again if there is none.
        with FileLock(self.root / "locks" / f"{key}.lock", poll_interval=0.2):
            pass


def _version_in(marker: Path) -> str | None:
    """Return the version of the layout, a number; None if there is none, or it is damaged. Raises OSError."""
    text = marker.read_text(errors="replace").strip() if marker.is_file() else ""
    return text if re.fullmatch("[1-9][0-9]{0,3}", text) else None


class BusyError(Exception):
    """Raised if another process works on the same action."""
