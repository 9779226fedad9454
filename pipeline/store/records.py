"""Store action records under their key. A record that can't be trusted is a miss with a reason, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.records.manifest import ActionRecord
from pipeline.store.blobs import Blobs, quarantine
from pipeline.store.files import publish, store_errors
from pipeline.store.leases import Leases


class Records:
    """Manage `actions/sha256/<ab>/<key>.json`."""

    def __init__(self, root: Path, blobs: Blobs, leases: Leases) -> None:
        self._root = root
        self._leases = leases
        self._blobs = blobs
        self._folder = root / "actions" / "sha256"

    def path(self, key: str) -> Path:
        """Return where the record of this key is, or would be."""
        return self._folder / key[:2] / f"{key}.json"

    def put(self, record: ActionRecord) -> None:
        """Commit an action. All blobs that the record names must be stored already."""
        with store_errors(self._root):
            # This rename is the commit of the whole action: a process killed before it has made blobs that nothing
            # names.
            publish(self.path(record.key), record.model_dump_json(indent=1).encode(), self._root / "tmp")

    def get(self, key: str) -> ActionRecord | str | None:
        """Return the record with all its blobs verified; None if there is none; a reason if it can't be used."""
        path = self.path(key)
        with store_errors(path):
            try:
                with self._leases.using(key):
                    data = path.read_bytes()
            except FileNotFoundError:  # not asked before: another process may move a damaged one away in between
                return None
            try:
                record = ActionRecord.model_validate_json(data)
            except ValidationError:
                quarantine(self._root, path)
                return "record damaged"
            # A record that was edited or copied to another name is valid JSON. `action.key` is computed from the action
            # itself, so the file name, the action and all that the seal covers must agree.
            if record.key != key or record.action.key != key or record.seal != record.computed_seal():
                quarantine(self._root, path)
                return "record damaged"
        for file in (file for artifact in record.outputs for file in artifact.files):
            problem = self._blobs.problem(file.digest)
            if problem:
                return f"blob {file.digest[:11]}… {problem}"
        return record

    def peek(self, key: str) -> ActionRecord | None:
        """Return the record unverified, to look ahead or to list; None if there is none. Nothing is moved."""
        with suppress(OSError, ValidationError), self._leases.using(key):
            return ActionRecord.model_validate_json(self.path(key).read_bytes())
        return None

    def keys(self) -> Iterator[str]:
        """Yield the keys of all records, in no order."""
        return (path.stem for path in self._folder.glob("*/*.json"))

    def documents(self, stage: str, axis: str | None) -> Iterator[dict[str, Any]]:
        """Yield records of one stage and axis as plain JSON, unverified: to compare with, not to use."""
        for path in self._folder.glob("*/*.json"):
            try:
                document = json.loads(path.read_bytes())
                action = document["action"]
                if action["stage"] == stage and action["axis"] == axis:
                    yield document
            except (OSError, ValueError, KeyError, TypeError):
                # One that is damaged, of another release, or just moved away only makes an explanation poorer.
                continue
