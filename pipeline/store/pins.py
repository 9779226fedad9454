"""Pin runs: what a pinned run reaches is kept until it is unpinned."""

from __future__ import annotations

from pathlib import Path

from pipeline.store.blobs import put_file
from pipeline.store.files import store_errors

FOLDER = "refs"


class Pins:
    """Manage `refs/<run id>`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / FOLDER

    def add(self, run_id: str) -> None:
        """Pin a run; one that is pinned stays so."""
        with store_errors(self._folder):
            put_file(self._root, self._folder / run_id, f"{run_id}\n".encode())

    def remove(self, run_id: str) -> bool:
        """Unpin a run and return whether it was pinned."""
        path = self._folder / run_id
        with store_errors(path):
            pinned = path.exists()
            path.unlink(missing_ok=True)
        return pinned

    def ids(self) -> frozenset[str]:
        """Return the ids of all pinned runs."""
        with store_errors(self._folder):
            return frozenset(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else frozenset()
