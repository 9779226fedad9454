"""Store run manifests by id."""

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
from pipeline.store.files import publish, store_errors
from pipeline.store.leases import Leases

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
            publish(path, manifest.model_dump_json(indent=1).encode(), self._root / "tmp")

    def ids(self) -> list[str]:
        """Return all run ids, the newest first."""
        # Ids are random: only the file's time tells which run is the newest.
        manifests = sorted(self._folder.glob("*/manifest.json"), key=lambda path: -path.stat().st_mtime_ns)
        return [path.parent.name for path in manifests]

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
            self._documents[recipe] = list(map(self._document, islice(named, RUNS_LOOKED_INTO)))
        return self._documents[recipe]

    def _is_of(self, recipe: str, run: str) -> bool:
        """Check the name at the beginning of the file only: manifests are long."""
        with suppress(OSError), (self._folder / run / "manifest.json").open("rb") as file:
            # Relies on `put`: pydantic writes fields in their order and a space after the colon. Names of recipes are
            # ASCII.
            return f'"name": {json.dumps(recipe)}'.encode() in file.read(HEAD_BYTES)
        return False

    def _document(self, run: str) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            document = json.loads((self._folder / run / "manifest.json").read_bytes())
            return document if isinstance(document, dict) else {}
        return {}

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
        try:
            with self._leases.using(f"run:{matches[0]}"):
                data = path.read_bytes()
            return RunManifest.model_validate_json(data)
        except ValidationError as error:
            raise StoreError(
                "the run's manifest is damaged, or of another release", where=str(path), hint="run the recipe again"
            ) from error


def _is_id(name: str) -> bool:
    """Return whether a name is a run's id or the beginning of one: others, such as `../x`, must not become a path."""
    return re.fullmatch(r"[0-9a-f]{1,8}", name) is not None
