"""Free space in a store: remove what neither the roots nor the limits keep, and what dead processes left.

The order makes a kill harmless: manifests first, then records, then blobs, so that what is left is named by nothing,
and never names what is gone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store import Store
from pipeline.store.choice import GRACE_S, Kept, Limits, Roots, choose
from pipeline.store.contents import Contents, Item, survey
from pipeline.store.files import store_errors
from pipeline.store.leases import is_free, remove_free
from pipeline.store.settings import GcSettings

KINDS = ("runs", "records", "blobs", "work", "quarantine", "tmp", "locks", "leases")  # in the order of their removal

EVERY_S = 3600.0  # an automatic one


@dataclass
class Figures:
    """Count files or folders of one kind, and their bytes."""

    count: int = 0
    size_bytes: int = 0


@dataclass
class Collected:
    """Tell what a collection removed, or would remove; sizes are in bytes."""

    before_bytes: int
    processes: int  # that hold a lease
    pinned: int
    removed: dict[str, Figures] = field(default_factory=lambda: {kind: Figures() for kind in KINDS})
    runs: list[str] = field(default_factory=list)  # ids of removed ones

    @property
    def freed_bytes(self) -> int:
        return sum(figures.size_bytes for figures in self.removed.values())

    @property
    def kept_bytes(self) -> int:
        return self.before_bytes - self.freed_bytes

    def add(self, kind: str, name: str, item: Item) -> None:
        self.removed[kind].count += 1
        self.removed[kind].size_bytes += item.size_bytes
        if kind == "runs":
            self.runs.append(name)


def collect(store: Store, limits: Limits, *, dry_run: bool = False) -> Collected:
    """Remove what is not kept (with `dry_run` only tell what), and return the figures.

    Safe while runs are going on, in this process too. StoreError if the manifest of a pinned run can't be read, or the
    store can't be locked.
    """
    with ExitStack() as stack:
        if not dry_run:
            store.create()
            stack.enter_context(store.leases.alone())
        now, live = time.time(), store.leases.live()
        contents, pinned = survey(store.root), store.pins.ids()
        _check_pinned(store, pinned)
        busy = frozenset(key for key, item in contents.locks.items() if not is_free(item.path))
        roots = Roots(pinned, frozenset(name for names in live.values() for name in names), busy)
        kept = choose(contents, roots, limits, now)
        collected = Collected(contents.size_bytes, len(live), len(pinned))
        for kind, name, item in _removable(contents, kept, roots, live.keys(), now):
            if dry_run or _remove(kind, item.path):
                collected.add(kind, name, item)
        if not dry_run:
            _remove_empty_runs(store.root, contents, now)
            store.leases.mark_collection()
    collected.runs.sort()
    return collected


def collect_if_due(store: Store, settings: GcSettings) -> Collected | None:
    """Collect if the user's settings make it automatic and the last time was over an hour ago; raises as `collect`."""
    last = store.leases.last_collection
    # The clock may have been set back since.
    if not settings.automatic or (last is not None and abs(time.time() - last) < EVERY_S):
        return None
    return collect(store, settings.limits())


def _check_pinned(store: Store, pinned: frozenset[str]) -> None:
    """Raise StoreError if it can't be told what a pinned run reaches. Other runs that are damaged go by their age."""
    for run in sorted(pinned):
        manifest = None
        with suppress(StoreError):
            manifest = store.runs.get(run)
        if manifest is None:
            what = f"the manifest of the pinned run {run} is damaged or missing"
            hint = "unpin it, or put the manifest back: what the run reaches can't be told, so nothing was removed"
            raise StoreError(what, where=str(store.root / "runs" / run / "manifest.json"), hint=hint)


def _removable(
    contents: Contents, kept: Kept, roots: Roots, living: Collection[str], now: float
) -> Iterator[tuple[str, str, Item]]:
    """Yield what is to be removed, in the order of KINDS: kind, name, item."""
    of_living = tuple(f"{name}-" for name in living)
    young = now - GRACE_S
    parts = {
        "runs": {name: item for name, item in contents.runs.items() if name not in kept.runs},
        "records": {key: item for key, item in contents.records.items() if key not in kept.keys},
        "blobs": {digest: item for digest, item in contents.blobs.items() if digest not in kept.blobs},
        "work": {key: item for key, item in contents.work.items() if key not in kept.work},
        "quarantine": {name: item for name, item in contents.quarantine.items() if name not in kept.quarantine},
        "tmp": {
            name: item
            for name, item in contents.tmp.items()
            if item.time < young and not (of_living and name.startswith(of_living))
        },
        "locks": {key: item for key, item in contents.locks.items() if key not in roots.busy},
        "leases": {name: item for name, item in contents.leases.items() if item.path.stem not in living},
    }
    for kind in KINDS:
        for name, item in parts[kind].items():
            yield kind, name, item


def _remove(kind: str, path: Path) -> bool:
    """Remove a file or folder; return whether it was there. StoreError if it can't be removed."""
    with store_errors(path):
        try:
            if kind == "locks" and path.is_file():
                return remove_free(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            return False
    return True


def _remove_empty_runs(root: Path, contents: Contents, now: float) -> None:
    """Remove the folders of removed runs, and of runs that were killed before their manifest was there."""
    for folder in (root / "runs").glob("*"):
        old = folder.name in contents.runs or folder.stat().st_mtime < now - GRACE_S
        if old and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
