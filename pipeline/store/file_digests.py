"""Remember the digests of the files that a recipe names, by the state that the file system reports.

Large data is not read again in every run to find that it has not changed. A remembered digest counts only while the
file's size, inode, modification and change time are unchanged, and only if these times were some seconds old when the
file was read: a later edit could have the same time (git and DVC guard against that in the same way). Forgetting costs
a second reading and nothing else, so a damaged memory is treated as empty: it has a seal, for a digest with one other
bit would be as good as any. A run that finds a file to be another than the one that was hashed forgets all.

Single files share one memory; a set of files (a folder of images) has its own, so that a run reads only what it needs:
a listing of a folder with `os.scandir`, and one file next to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.records.keys import digest_of_file
from pipeline.store.files import publish
from pipeline.store.seals import sealed, unsealed

SETTLED_NS = 2_000_000_000  # two ticks of FAT's clock, the coarsest
MAX_DEPTH = 32  # a link to a folder above would never end

State = tuple[int, ...]  # modification and change time in ns, size, inode


class Seen(NamedTuple):
    """Hold a digest, the file's state when it was computed, and whether a later change would show in that state."""

    state: State
    digest: str
    settled: bool


class FileDigests:
    """Digest parts of files, once per state; kept in `memory` between processes if one is given."""

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._files = _Memory(memory)
        self._sets: dict[str, _Memory] = {}

    def remembered(self, path: Path, part: str, compute: Callable[[], str]) -> str:
        """Return the digest of a part of a file, from memory if the file has not changed since. Raises OSError."""
        # `state_of` is called before the bytes are read. After it, new times could be stored beside the digest of old
        # bytes.
        return self._files.known(_name(path, part), state_of(path)) or self.computed(path, part, compute)

    def confirmed(self, path: Path, part: str, compute: Callable[[], str]) -> str:
        """Return the digest of a part of a file, computed again unless any change since would show."""
        return self._files.known(_name(path, part), state_of(path), settled=True) or self.computed(path, part, compute)

    def computed(self, path: Path, part: str, compute: Callable[[], str]) -> str:
        """Return the digest of a part of a file as it is now."""
        return self._files.computed(_name(path, part), state_of(path), compute)

    def of_files(self, root: Path, purpose: str, states: Mapping[str, State]) -> dict[str, str]:
        """Return `sha256:…` of every file of a set, by name relative to `root`; `purpose` separates sets of one root.

        `states` are those of a listing: files whose state is remembered are not opened. Raises OSError.
        """
        name = _name(root, purpose)
        if name not in self._sets:
            path = self._memory and self._memory.with_suffix("") / f"{_short(name)}.json"
            self._sets[name] = _Memory(path)
        memory = self._sets[name]
        # Without this the memory of a folder would keep a name for every file that ever was in it.
        memory.keep_only(states)
        return {
            file: memory.known(file, state) or memory.computed(file, state, partial(digest_of_file, root / file))
            for file, state in states.items()
        }

    def forget(self) -> None:
        """Forget every digest that was looked up, also on disk once it is saved: they may be wrong."""
        for memory in (self._files, *self._sets.values()):
            memory.keep_only({})

    def save(self, scratch: Path) -> None:
        """Save what is settled, through a temporary file in `scratch`. Raises OSError."""
        for memory in (self._files, *self._sets.values()):
            memory.save(scratch)


class _Memory:
    """Hold what was seen, by name, and the file that it is saved in."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = _read(path) if path else {}
        self._changed = False

    def known(self, name: str, state: State, *, settled: bool = False) -> str | None:
        seen = self._seen.get(name)
        return seen.digest if seen is not None and seen.state == state and seen.settled >= settled else None

    def computed(self, name: str, state: State, compute: Callable[[], str]) -> str:
        # Before the reading: a file edited while it is read must not count as settled.
        began = time.time_ns()
        digest = compute()
        settled = max(state[:2]) < began - SETTLED_NS
        seen = Seen(state, digest, settled)
        # Unsettled digests are never saved, so they are no reason to write the file.
        self._changed |= settled and self._seen.get(name) != seen
        self._seen[name] = seen
        return digest

    def keep_only(self, names: Mapping[str, object]) -> None:
        """Forget all other names."""
        gone = self._seen.keys() - names.keys()
        self._changed |= bool(gone)
        for name in gone:
            del self._seen[name]

    def save(self, scratch: Path) -> None:
        if self._path is None or not self._changed:
            return
        # No lock: if two runs save at once, the later one's memory stays, and the other's files are read once more.
        settled = {name: [*seen.state, seen.digest] for name, seen in self._seen.items() if seen.settled}
        publish(self._path, sealed(json.dumps({"files": settled}, indent=0).encode()), scratch)
        self._changed = False


def listing(root: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, State], list[str]]:
    """List files below `root` with one of the suffixes (lower case), with their states, and all folders.

    Names are relative; those that begin with a dot are left out. Sorted by name; links are followed. Raises OSError.
    """
    files: dict[str, State] = {}
    folders: list[str] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir():
                    if name.count("/") > MAX_DEPTH:
                        raise OSError(f"folders lie more than {MAX_DEPTH} deep: {name}")
                    folders.append(name)
                    waiting.append(name)
                elif entry.name.lower().endswith(suffixes):
                    files[name] = _state(entry.stat())
    return dict(sorted(files.items())), sorted(folders)


def state_of(path: Path) -> State:
    """Return what the file system reports about a file. Raises OSError."""
    return _state(path.stat())


def _state(stat: os.stat_result) -> State:
    # The change time as well: tools that copy or unpack files set the modification time back, but none can set this
    # one.
    return (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)


def _name(path: Path, part: str) -> str:
    # Links are not resolved: one that is pointed at another file shows another inode in the state.
    return f"{path.absolute()}#{part}"


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _read(memory: Path) -> dict[str, Seen]:
    try:
        document = unsealed(memory.read_bytes())
        written = json.loads(document)["files"] if document is not None else {}
        return {name: Seen(tuple(state), digest, settled=True) for name, (*state, digest) in written.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}
