"""Survey a store without reading its blobs: what is there, how large and how old it is, and what names what.

Documents are read as plain JSON and never moved: a damaged one names nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.store.files import store_errors
from pipeline.store.leases import Leases


@dataclass(frozen=True, slots=True)
class Item:
    """Hold a file, or a folder with all that is in it; `time` is the newest in it, in seconds since the epoch."""

    path: Path
    size_bytes: int
    time: float


@dataclass(frozen=True, slots=True)
class Named:
    """Hold what a document names directly: keys of actions, and blobs."""

    keys: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    title: str = ""  # the recipe of a run, the stage of a record


@dataclass(frozen=True)
class Contents:
    """Hold all that a store contains, by digest, key, run id or file name."""

    blobs: Mapping[str, Item]
    records: Mapping[str, Item]
    runs: Mapping[str, Item]
    work: Mapping[str, Item]
    quarantine: Mapping[str, Item]
    tmp: Mapping[str, Item]
    locks: Mapping[str, Item]
    leases: Mapping[str, Item]
    made: Mapping[str, Named]  # by record
    listed: Mapping[str, Named]  # by run
    resumable: frozenset[str]  # keys of scratch with progress in it
    other_bytes: int  # studies, and what is remembered of the user's files: no collection frees them

    @property
    def size_bytes(self) -> int:
        """Return the size of all that a collection decides about, in bytes."""
        parts = (self.blobs, self.records, self.runs, self.work, self.quarantine, self.tmp, self.locks, self.leases)
        return sum(item.size_bytes for part in parts for item in part.values())

    def reached(self, named: Iterable[Named]) -> tuple[set[str], set[str]]:
        """Return the keys and the blobs that documents reach: through records to their files and children."""
        keys, blobs = set[str](), set[str]()
        waiting = list(named)
        while waiting:
            one = waiting.pop()
            blobs |= one.blobs
            new = one.keys - keys
            keys |= new
            waiting += [self.made[key] for key in new if key in self.made]
        return keys, blobs


def survey(root: Path) -> Contents:
    """Return what is in the store at `root`. What appears or goes meanwhile may be missing."""
    with store_errors(root):
        records = {path.stem: _item(path) for path in (root / "actions" / "sha256").glob("*/*.json")}
        runs = {path.name: _item(path / "manifest.json") for path in _entries(root / "runs")}
        runs = {name: item for name, item in runs.items() if item.time}
        work = {path.name: _item(path) for path in _entries(root / "work")}
        return Contents(
            blobs={f"sha256:{path.name}": _item(path) for path in _entries(root / "blobs" / "sha256")},
            records=records,
            runs=runs,
            work=work,
            quarantine={path.name: _moved(path) for path in _entries(root / "quarantine")},
            tmp={path.name: _item(path) for path in _entries(root / "tmp")},
            locks={path.stem: _item(path) for path in _entries(root / "locks")},
            leases={path.name: _item(path) for path in Leases(root).files()},
            made={key: _named_by_record(_document(item.path)) for key, item in records.items()},
            listed={name: _named_by_run(_document(item.path)) for name, item in runs.items()},
            resumable=frozenset(key for key, item in work.items() if has_progress(item.path)),
            other_bytes=sum(_item(root / name).size_bytes for name in ("studies", "file-digests", "file-digests.json")),
        )


def has_progress(work_dir: Path) -> bool:
    """Return whether a killed run left something to resume from."""
    # `.file` is a copy of the recipe's model, `tmp…` a write that was cut short: neither is progress.
    return any(not path.name.startswith((".", "tmp")) for path in _entries(work_dir))


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing if it is none, or gone: an action that ends meanwhile removes its scratch."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return list(folder.iterdir())
    return []


def _item(path: Path) -> Item:
    """Return the size and age of a file or folder; those of nothing if it is gone."""
    size, time = 0, 0.0
    for part in (path, *(Path(at, name) for at, _, names in os.walk(path) for name in names)):
        try:
            stat = part.lstat()
        except FileNotFoundError:
            continue
        time = max(time, stat.st_mtime)
        size += stat.st_size if not part.is_dir() else 0
    return Item(path, size, time)


def _moved(path: Path) -> Item:
    """Return a file or folder that was moved here: as old as the move, which leaves the modification time alone."""
    item = _item(path)
    return replace(item, time=max(item.time, path.lstat().st_ctime))


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _named_by_record(document: Any) -> Named:
    try:
        return Named(
            keys=frozenset(document["children"]),
            blobs=frozenset(_files(document["outputs"])),
            title=str(document["action"]["stage"]),
        )
    except (TypeError, KeyError):
        return Named()


def _named_by_run(document: Any) -> Named:
    try:
        entries = document["stages"]
        keys = {entry["key"] for entry in entries} | {key for entry in entries for key in entry["children"]}
        blobs = {digest for entry in entries for digest in _files(entry["outputs"])}
        return Named(frozenset(keys - {None}), frozenset(blobs), str(document["name"]))
    except (TypeError, KeyError):
        return Named()


def _files(outputs: Any) -> list[str]:
    return [file["digest"] for output in outputs for file in output["files"]]
