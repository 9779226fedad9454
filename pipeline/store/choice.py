"""Choose what of a store's contents stays, given what is pinned and in use, and the limits on age and size.

No file is touched here: the choice is a function of a survey, so that a dry run and the real one choose alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.store.contents import Contents, Item, Named

DAY_S = 86_400.0
GRACE_S = 600.0  # for what may belong to a process without a lease


@dataclass(frozen=True)
class Limits:
    """Set how old and how large what is kept may be; None is no limit."""

    keep_days: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True)
class Roots:
    """Hold what stays whatever the limits are: pinned runs, and what living processes use (`pipeline.store.leases`).

    `busy` are keys whose lock is held.
    """

    pinned: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()


@dataclass
class Kept:
    """Hold what stays, and its size in bytes."""

    runs: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    blobs: set[str] = field(default_factory=set)
    work: set[str] = field(default_factory=set)
    quarantine: set[str] = field(default_factory=set)
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Unit:
    """Hold what is kept together, or not at all."""

    time: float
    runs: frozenset[str] = frozenset()
    names: tuple[Named, ...] = ()
    work: frozenset[str] = frozenset()
    quarantine: frozenset[str] = frozenset()


def choose(contents: Contents, roots: Roots, limits: Limits, now: float) -> Kept:
    """Return what stays: the roots and all that they reach, then the newest units as long as they fit the limits."""
    choice = _Choice(contents)
    named = _named_by_runs(contents)
    choice.add(choice.reached_by(_forced(contents, roots, named, now)))
    oldest = now - limits.keep_days * DAY_S if limits.keep_days is not None else 0.0
    for unit in sorted(_units(contents, named), key=lambda unit: unit.time, reverse=True):
        if unit.time < oldest:
            break
        new = choice.reached_by(unit)
        # The next older one might still fit. It goes all the same: what stays is what is newer than what goes.
        if limits.max_bytes is not None and choice.kept.size_bytes + choice.added_bytes(new) > limits.max_bytes:
            break
        choice.add(new)
    return choice.kept


class _Choice:
    """Track what is kept so far."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.kept = Kept()

    def reached_by(self, unit: _Unit) -> Kept:
        """Return what a unit would add to what is kept."""
        kept, contents = self.kept, self._contents
        keys, blobs = contents.reached(unit.names)
        work = {key for key in keys if key in contents.resumable and key not in contents.records} | unit.work
        return Kept(
            runs={*unit.runs} - kept.runs,
            keys=keys - kept.keys,
            blobs=blobs - kept.blobs,
            work=work - kept.work,
            quarantine={*unit.quarantine} - kept.quarantine,
        )

    def added_bytes(self, new: Kept) -> int:
        contents = self._contents
        parts = (
            (contents.runs, new.runs),
            (contents.records, new.keys),
            (contents.blobs, new.blobs),
            (contents.work, new.work),
            (contents.quarantine, new.quarantine),
        )
        return sum(_size(items, names) for items, names in parts)

    def add(self, new: Kept) -> None:
        self.kept.size_bytes += self.added_bytes(new)
        self.kept.runs |= new.runs
        self.kept.keys |= new.keys
        self.kept.blobs |= new.blobs
        self.kept.work |= new.work
        self.kept.quarantine |= new.quarantine


def _size(items: Mapping[str, Item], names: set[str]) -> int:
    return sum(items[name].size_bytes for name in names if name in items)


def _forced(contents: Contents, roots: Roots, named: Named, now: float) -> _Unit:
    """Return what stays whatever the limits are; `named` is what runs reach."""
    used_runs = {name.removeprefix("run:") for name in roots.used if name.startswith("run:")}
    recipes = {name.removeprefix("recipe:") for name in roots.used if name.startswith("recipe:")}
    runs = contents.runs.keys() & (roots.pinned | used_runs | _newest(contents, recipes))
    named_by_any = _named_by_any(contents)
    # A process without a lease writes blobs, then the record that names them, then the manifest that names that.
    young = now - GRACE_S
    keys = {key for key, item in contents.records.items() if item.time > young and key not in named.keys}
    blobs = {digest for digest, item in contents.blobs.items() if item.time > young and digest not in named_by_any}
    in_use = roots.used | roots.busy
    keys |= in_use & contents.records.keys()
    blobs |= in_use & contents.blobs.keys()
    work = {key for key, item in contents.work.items() if key in in_use or item.time > young}
    direct = Named(frozenset(keys), frozenset(blobs))
    return _Unit(now, frozenset(runs), (direct, *(contents.listed[run] for run in runs)), frozenset(work))


def _newest(contents: Contents, recipes: set[str]) -> set[str]:
    """Return the newest run of each of these recipes."""
    found: dict[str, str] = {}
    for run in sorted(contents.runs, key=lambda name: contents.runs[name].time):
        if contents.listed[run].title in recipes:
            found[contents.listed[run].title] = run
    return set(found.values())


def _units(contents: Contents, named: Named) -> list[_Unit]:
    """Return what the limits decide about: runs, and what no run names; `named` is what runs reach."""
    loose = contents.records.keys() - named.keys
    scratch = contents.resumable - contents.records.keys() - named.keys
    return [
        *(_Unit(item.time, frozenset({run}), (contents.listed[run],)) for run, item in contents.runs.items()),
        *(_Unit(contents.records[key].time, names=(Named(frozenset({key})),)) for key in loose),
        *(_Unit(contents.work[key].time, work=frozenset({key})) for key in scratch),
        *(_Unit(item.time, quarantine=frozenset({name})) for name, item in contents.quarantine.items()),
    ]


def _named_by_runs(contents: Contents) -> Named:
    """Return all that runs reach."""
    keys, blobs = contents.reached(contents.listed.values())
    return Named(frozenset(keys), frozenset(blobs))


def _named_by_any(contents: Contents) -> set[str]:
    """Return the blobs that any run or record names."""
    documents = (*contents.listed.values(), *contents.made.values())
    return {digest for named in documents for digest in named.blobs}
