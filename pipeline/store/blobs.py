"""Store immutable bytes under their sha256."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

from pipeline.records.keys import digest_of_bytes, digest_of_file
from pipeline.store.files import publish, store_errors
from pipeline.store.leases import Leases

QUARANTINE = "quarantine"


class Blobs:
    """Manage `blobs/sha256/<hex>`. A blob is verified once per process."""

    def __init__(self, root: Path, leases: Leases) -> None:
        self._root = root
        self._leases = leases
        self._folder = root / "blobs" / "sha256"
        # Records share blobs (a model is the output of one and the input of others): each is read and hashed only once.
        self._verified: set[str] = set()

    def path(self, digest: str) -> Path:
        """Return where the bytes with this digest are, or would be."""
        return self._folder / digest.removeprefix("sha256:")

    def put(self, data: bytes | memoryview) -> str:
        """Store `data` and return its digest. Bytes that are already there and whole are not written again."""
        digest = digest_of_bytes(data)
        # Not only `exists`: a damaged blob is moved away by this, so that running a stage again repairs the store.
        if self.problem(digest) is None:
            return digest
        with store_errors(self._root):
            put_file(self._root, self.path(digest), data)
        self._verified.add(digest)
        return digest

    def problem(self, digest: str) -> str | None:
        """Return why the blob can't be used ("missing", "damaged"), or None. A damaged one goes to quarantine."""
        path = self.path(digest)
        # Whoever reads or writes a blob asks this first: from here on no collection removes it.
        with self._leases.using(digest), store_errors(path):
            there = path.is_file()
        if not there:
            return "missing"
        if digest in self._verified:
            return None
        with store_errors(path):
            if digest_of_file(path) != digest and not self._was_mended(digest, path):
                return "damaged"
        self._verified.add(digest)
        return None

    def _was_mended(self, digest: str, path: Path) -> bool:
        """Quarantine a damaged blob; true if another process had put the right bytes there just before."""
        moved = quarantine(self._root, path)
        # Between our reading and the rename someone may have published good bytes under this name: hash what was really
        # moved.
        if moved is None or digest_of_file(moved) != digest:
            return False
        # If a third process has published it meanwhile, it is replaced by the same content.
        moved.replace(path)
        return True

    def digests(self) -> Iterator[str]:
        """Yield the digests of all blobs, in no order."""
        if self._folder.is_dir():
            yield from (f"sha256:{path.name}" for path in self._folder.iterdir())


def put_file(root: Path, target: Path, data: bytes | memoryview) -> None:
    """Publish a file of the store at `root`. What stands in its way, such as a folder of its name, is quarantined."""
    make_way(root, target)
    publish(target, data, root / "tmp")


def make_way(root: Path, target: Path, *, folder: bool = False) -> None:
    """Quarantine what stands where a file of the store (or a `folder`) and the folders around it are to be.

    A copy that went wrong leaves such things, and nothing that is written replaces them.
    """
    around = [parent for parent in reversed(target.parents) if parent.is_relative_to(root) and parent != root]
    for path in (*around, target):
        # Not of links that lead nowhere: a part of the store may be on a disk that is not there at the moment.
        if path.exists() and path.is_dir() == (path == target and not folder):
            quarantine(root, path)


def quarantine(root: Path, path: Path) -> Path | None:
    """Move a file to where a person can look at it: returns its new place, or None if it can't be moved.

    Another process may have moved it, or the store may be read-only: either way it can't be used.
    """
    folder = root / QUARANTINE
    # A random ending: a second damaged copy of the same blob must not replace the first.
    target = folder / f"{path.name}.{secrets.token_hex(4)}"
    try:
        folder.mkdir(exist_ok=True)
        path.rename(target)
    except OSError:
        return None
    return target
