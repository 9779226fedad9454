"""Digests of the files that a recipe names, remembered by what the file system says of them.

Large data is not read again at every run to find that it has not changed. A remembered digest counts only while the
file's size, inode, modification and change time are what they were, and only if these lay some seconds back when the
file was read: a later edit could carry the same time (git and DVC guard against that in the same way). What is
forgotten costs a second reading and nothing else, so a damaged memory is an empty one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pipeline.store.files import publish

SETTLED_NS = 2_000_000_000  # two ticks of FAT's clock, the coarsest


class Seen(NamedTuple):
    """A digest, the file's state when it was computed, and whether a later change would show in that state."""

    state: tuple[int, ...]
    digest: str
    settled: bool


class FileDigests:
    """Digests of parts of files, computed once a state; kept in `memory` between processes where one is given."""

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._seen = _read(memory) if memory else {}
        self._changed = False

    def remembered(self, path: Path, part: str, compute: Callable[[], str]) -> str:
        """The digest of a part of a file, from memory where the file has not changed since. Raises OSError."""
        known = self._seen.get(_name(path, part))
        if known is not None and known.state == _state(path):
            return known.digest
        return self.computed(path, part, compute)

    def computed(self, path: Path, part: str, compute: Callable[[], str]) -> str:
        """The digest of a part of a file as it is now."""
        began, state = time.time_ns(), _state(path)
        digest = compute()
        settled = max(state[:2]) < began - SETTLED_NS
        seen = Seen(state, digest, settled)
        self._changed |= settled and self._seen.get(_name(path, part)) != seen
        self._seen[_name(path, part)] = seen
        return digest

    def save(self, scratch: Path) -> None:
        """Write down what is settled, through a temporary file in `scratch`. Raises OSError."""
        if self._memory is None or not self._changed:
            return
        settled = {name: [*seen.state, seen.digest] for name, seen in self._seen.items() if seen.settled}
        publish(self._memory, json.dumps(settled, indent=0).encode(), scratch)
        self._changed = False


def _name(path: Path, part: str) -> str:
    return f"{path.absolute()}#{part}"


def _state(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)


def _read(memory: Path) -> dict[str, Seen]:
    try:
        written = json.loads(memory.read_bytes())
        return {name: Seen(tuple(state), digest, settled=True) for name, (*state, digest) in written.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
