"""Read and append lines of a history file: a file has all of its new lines, or is unchanged.

Each line has a seal, so that a number that is not the measured one is told and left out. Lines of earlier releases have
none and are read as they are: a history is kept for years.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from pipeline.errors import RecipeError, SecateurError
from pipeline.records.artifacts import Digest
from pipeline.records.values import Value
from pipeline.store.files import publish
from pipeline.store.seals import sealed, unsealed

SEAL = b'"seal"'
COMMIT_VARIABLES = ("GITHUB_SHA", "CI_COMMIT_SHA")


class Entry(Value):
    """Record one model, measured once on one target. `time` is UTC; numbers of different devices are never compared."""

    schema_version: Literal[1] = 1
    time: str
    commit: str | None = None
    name: str
    digest: Digest
    target: str
    device: dict[str, str]
    runtime: str
    rounds: int = Field(ge=0)
    metrics: dict[str, float]

    @property
    def series(self) -> tuple[str, str, str]:
        """Return what must be equal for two entries to be comparable: name, target, device."""
        return self.name, self.target, " ".join(f"{key}={value}" for key, value in sorted(self.device.items()))


@dataclass(frozen=True)
class History:
    """Hold all readable entries, in the file's order, and what is wrong with the other lines."""

    entries: tuple[Entry, ...]
    damaged: tuple[str, ...]


def read_history(file: Path) -> History:
    """Read a history file; RecipeError if it does not exist, or no line of it is an entry."""
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError as error:
        hint = "secateur bench FILE --append makes it"
        raise RecipeError("the history is not there", where=str(file), hint=hint) from error
    except OSError as error:
        raise RecipeError(f"the history can't be read: {error.strerror or error}", where=str(file)) from error
    entries, damaged = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = unsealed(line.strip()) if SEAL in line else line
        if entry is None:
            damaged.append(f"{file}:{number}: not what was measured: the seal of the line does not fit")
            continue
        try:
            entries.append(Entry.model_validate_json(entry))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            location = ".".join(map(str, first["loc"]))
            message = first["msg"][:1].lower() + first["msg"][1:]
            damaged.append(f"{file}:{number}: no entry of a history: {location + ': ' if location else ''}{message}")
    if damaged and not entries:
        hint = f"{damaged[0]}; is it the right file?"
        raise RecipeError("the file is no history", where=str(file), hint=hint)
    return History(tuple(entries), tuple(damaged))


def require_place(file: Path) -> None:
    """Raise RecipeError unless entries can be added there: before measuring, and never to another kind of file."""
    if not file.parent.is_dir() or file.is_dir():
        raise RecipeError("a history can't be kept there", where=str(file), hint="name a file in a folder that is")
    if file.exists() and file.stat().st_size:
        read_history(file)


def append(file: Path, entries: Sequence[Entry]) -> None:
    """Add entries, all or none: a copy with them replaces the file. Another process' lines are never lost."""
    from filelock import FileLock  # slow to import, and only writers need it

    require_place(file)
    try:
        with FileLock(file.with_name(f".{file.name}.lock")):
            before = file.read_bytes() if file.exists() else b""
            if before and not before.endswith(b"\n"):
                before += b"\n"  # a truncated line stays separate and damaged
            lines = (sealed(entry.model_dump_json(exclude_none=True).encode()) + b"\n" for entry in entries)
            # Resolved: replacing a symbolic link would leave the history that it leads to without the new lines.
            publish(file.resolve(), before + b"".join(lines), file.resolve().parent)
    except OSError as error:
        raise SecateurError(f"the history can't be written: {error.strerror or error}", where=str(file)) from error


def now() -> str:
    """Return the time in the format of entries."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit_of(folder: Path) -> str | None:
    """Return the measured commit: from CI, else from git in `folder`, else None."""
    for name in COMMIT_VARIABLES:
        if os.environ.get(name):
            return os.environ[name]
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
