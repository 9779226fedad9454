"""Store run manifests by id, sealed: a manifest that is not what its run wrote is never read."""

from __future__ import annotations

import json
import re
import secrets
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import RecipeError, StoreError
from pipeline.records.manifest import RunManifest
from pipeline.store.blobs import put_file, quarantine
from pipeline.store.files import store_errors
from pipeline.store.leases import Leases
from pipeline.store.seals import sealed, unsealed

RUNS_LOOKED_INTO = 100  # of one recipe, when a reason is needed
HEAD_BYTES = 400  # hold the schema's version, the run's id and the name, which has at most 80 characters


class Runs:
    """Manage `runs/<id>/manifest.json`; ids are eight hexadecimal digits, any unique prefix names one."""

    def __init__(self, root: Path, leases: Leases) -> None:
        self._root = root
        self._leases = leases
        self._folder = root / "runs"
        self._documents: dict[str, list[dict[str, Any]]] = {}

    def new_id(self) -> str:
        """Return an id that no run in this store has."""
        # Nothing reserves an id before `put`: runs that begin at the same time are kept apart by chance alone.
        while True:
            candidate = secrets.token_hex(4)
            if not (self._folder / candidate).exists():
                return candidate

    def put(self, manifest: RunManifest) -> None:
        """Write a run's manifest, replacing an earlier version from the same run."""
        with self._leases.using(f"run:{manifest.run_id}"), store_errors(self._root):
            path = self._folder / manifest.run_id / "manifest.json"
            put_file(self._root, path, sealed(manifest.model_dump_json(indent=1).encode()))

    def ids(self) -> list[str]:
        """Return all run ids, the newest first."""
        times = dict[str, int]()
        for path in self._folder.glob("*/manifest.json"):
            with suppress(FileNotFoundError):  # another process may have moved it away
                # Ids are random: only the file's time tells which run is the newest.
                times[path.parent.name] = path.lstat().st_mtime_ns
        return sorted(times, key=lambda run: -times[run])

    def has(self, run_id: str) -> bool:
        """Return whether there is a manifest of exactly this id."""
        return _is_id(run_id) and (self._folder / run_id / "manifest.json").is_file()

    def keys_of(self, recipe: str) -> frozenset[str]:
        """Return the keys of all actions in the latest runs of recipes with this name."""
        entries = (entry for document in self._latest(recipe) for entry in document.get("stages", ()))
        return frozenset({entry.get("key") for entry in entries} - {None})

    def last_try(self, recipe: str, action_id: str) -> dict[str, Any] | None:
        """Return the entry of an action in the latest such run that reached it; None if none did."""
        entries = (entry for document in self._latest(recipe) for entry in document.get("stages", ()))
        return next((entry for entry in entries if entry.get("id") == action_id and entry.get("key")), None)

    def _latest(self, recipe: str) -> list[dict[str, Any]]:
        """Return the latest manifests of recipes with this name, the newest first; read once, only for reasons."""
        if recipe not in self._documents:
            named = (run for run in self.ids() if self._is_of(recipe, run))
            self._documents[recipe] = list(filter(None, map(self._document, islice(named, RUNS_LOOKED_INTO))))
        return self._documents[recipe]

    def _is_of(self, recipe: str, run: str) -> bool:
        """Check the name at the beginning of the file only: manifests are long."""
        with suppress(OSError), (self._folder / run / "manifest.json").open("rb") as file:
            # Relies on `put`: pydantic writes fields in their order and a space after the colon. Names of recipes are
            # ASCII.
            return f'"name": {json.dumps(recipe)}'.encode() in file.read(HEAD_BYTES)
        return False

    def _document(self, run: str) -> dict[str, Any]:
        """Return a manifest as JSON, verified; empty if there is none that can be used."""
        with suppress(OSError):
            document: dict[str, Any] = json.loads(self._verified(run) or b"{}")
            return document
        return {}

    def _verified(self, run: str) -> bytes | None:
        """Return the manifest's bytes; None if they are not what this run has written. Raises OSError."""
        try:
            document = unsealed((self._folder / run / "manifest.json").read_bytes())
        except (FileNotFoundError, IsADirectoryError):
            return None
        # One that was copied from another run is whole, and still not this run's.
        own = document is not None and f'"run_id": "{run}"'.encode() in document[:HEAD_BYTES]
        return document if own else None

    def problem(self, run: str) -> str | None:
        """Return why the manifest of this run can't be used, or None. A damaged one goes to quarantine."""
        path = self._folder / run / "manifest.json"
        try:
            if self._verified(run) is not None:
                return None
        except OSError as error:
            return f"manifest can't be read: {(error.strerror or str(error)).lower()}"
        quarantine(self._root, path)
        return "manifest damaged"

    def get(self, name: str) -> RunManifest | None:
        """Return the run with the id `name`, a unique prefix of it, or `latest`; None if there is none."""
        if name == "latest":
            matches = self.ids()[:1]
        elif not _is_id(name):
            matches = []
        else:
            # A whole id needs no listing of all runs.
            matches = [name] if self.has(name) else [i for i in self.ids() if i.startswith(name)]
        if not matches:
            return None
        if len(matches) > 1:
            raise RecipeError(f"{len(matches)} runs begin with {name}", hint="give more digits: " + ", ".join(matches))
        path = self._folder / matches[0] / "manifest.json"
        with self._leases.using(f"run:{matches[0]}"), store_errors(path):
            document = self._verified(matches[0])
        hint = "run the recipe again: what is cached is not done again"
        if document is None:
            raise StoreError("the run's manifest is damaged, or older than seals are", where=str(path), hint=hint)
        try:
            return RunManifest.model_validate_json(document)
        except ValidationError as error:
            raise StoreError("the run's manifest is of another release", where=str(path), hint=hint) from error


def _is_id(name: str) -> bool:
    """Return whether a name is a run's id or the beginning of one: others, such as `../x`, must not become a path."""
    return re.fullmatch(r"[0-9a-f]{1,8}", name) is not None
