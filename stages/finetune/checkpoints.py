"""Checkpoints of a training: each whole or absent, checked on reading, the last two kept.

A checkpoint is two files: arrays (`epoch-0003.npz`), then a JSON document with the rest and the arrays' digest. The
document is renamed into place last; a checkpoint whose digest does not hold is passed over for the one before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pipeline.keys import digest_of_bytes
from pipeline.store.files import publish

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch: `epoch` counts finished ones, `state` is plain data, `arrays` go by name."""

    epoch: int
    state: dict[str, Any]
    arrays: Mapping[str, Any]


class Checkpoints:
    """The checkpoints in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the last two. Raises OSError; older ones then stay as they are."""
        import numpy as np

        buffer = BytesIO()
        np.savez(buffer, allow_pickle=False, **checkpoint.arrays)
        data = buffer.getvalue()
        document = {"epoch": checkpoint.epoch, "digest": digest_of_bytes(data), "state": checkpoint.state}
        publish(self._arrays(checkpoint.epoch), data, self._folder)
        publish(self._document(checkpoint.epoch), json.dumps(document).encode(), self._folder)
        for epoch in self._epochs()[:-KEPT]:
            self._document(epoch).unlink(missing_ok=True)
            self._arrays(epoch).unlink(missing_ok=True)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None."""
        for epoch in reversed(self._epochs()):
            checkpoint = self._read(epoch)
            if checkpoint is not None:
                return checkpoint
        return None

    def _read(self, epoch: int) -> Checkpoint | None:
        import numpy as np

        try:
            document = json.loads(self._document(epoch).read_bytes())
            data = self._arrays(epoch).read_bytes()
            if document["digest"] != digest_of_bytes(data) or document["epoch"] != epoch:
                return None
            with np.load(BytesIO(data), allow_pickle=False) as archive:
                return Checkpoint(epoch, document["state"], dict(archive))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _epochs(self) -> list[int]:
        return sorted(int(path.stem.removeprefix("epoch-")) for path in self._folder.glob("epoch-*.json"))

    def _document(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:05d}.json"

    def _arrays(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:05d}.npz"
