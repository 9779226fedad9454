"""Store action records under their key. A record that can't be trusted is a miss with a reason, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.records.manifest import Action, ActionRecord, Provenance
from pipeline.store.blobs import Blobs, put_file, quarantine
from pipeline.store.files import store_errors
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
            put_file(self._root, self.path(record.key), record.model_dump_json(indent=1).encode())

    def get(self, key: str) -> ActionRecord | str | None:
        """Return the record with all its blobs verified; None if there is none; a reason if it can't be used."""
        path = self.path(key)
        with store_errors(path):
            try:
                with self._leases.using(key):
                    data = path.read_bytes()
            # Not asked before: another process may move a damaged one away in between.
            except (FileNotFoundError, NotADirectoryError):
                return None
            except IsADirectoryError:
                data = b""
            record = _verified(data, key)
            if record is None:
                quarantine(self._root, path)
                return "record damaged"
        for file in (file for artifact in record.outputs for file in artifact.files):
            problem = self._blobs.problem(file.digest)
            if problem:
                return f"blob {file.digest[:11]}… {problem}"
        return record

    def peek(self, key: str) -> ActionRecord | None:
        """Return the record without a look at its blobs; None if there is none that is whole. Nothing is moved."""
        with suppress(OSError), self._leases.using(key):
            return _verified(self.path(key).read_bytes(), key)
        return None

    def keys(self) -> Iterator[str]:
        """Yield the keys of all records, in no order."""
        return (path.stem for path in self._folder.glob("*/*.json"))

    def actions(self, stage: str, axis: str | None) -> Iterator[tuple[Action, Provenance]]:
        """Yield the recorded actions of one stage and axis: to compare with, not to use.

        They are what their keys say, but neither their records' other parts nor their outputs are verified.
        """
        for path in self._folder.glob("*/*.json"):
            try:
                document = json.loads(path.read_bytes())
                named = document["action"]
                if named["stage"] != stage or named["axis"] != axis:
                    continue
                action = Action.model_validate(named)
                provenance = Provenance.model_validate(document["provenance"])
                whole = action.key == path.stem
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                # One that is damaged, of another release, or just moved away only makes an explanation poorer.
                continue
            if whole:
                yield action, provenance


def _verified(data: bytes, key: str) -> ActionRecord | None:
    """Return the record in these bytes; None if they are not what was once written under this key."""
    try:
        record = ActionRecord.model_validate_json(data)
        # A record that was edited or copied to another name is valid JSON. `action.key` is computed from the action
        # itself, so the file name, the action and all that the seal covers must agree.
        whole = record.key == key == record.action.key and record.seal == record.computed_seal()
    except ValueError:  # of pydantic, or of canonical JSON, which has no integers above 2**53
        return None
    return record if whole else None
