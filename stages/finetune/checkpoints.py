"""Checkpoints of a training: each whole or absent, checked on reading, the last two and the best kept.

A checkpoint is one file, renamed into place when it is whole: a digest of all that follows, a line of JSON with plain
data, and arrays. One whose digest does not hold, or whose best epoch's doesn't, is passed over for the one before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pipeline.records.keys import digest_of_bytes
from pipeline.store.files import publish

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch: `epoch` counts finished ones, `state` is plain data, `arrays` go by name.

    `best` is the epoch whose checkpoint holds the best weights so far, None where no epoch counts yet.
    """

    epoch: int
    best: int | None
    state: dict[str, Any]
    arrays: Mapping[str, Any]


class Checkpoints:
    """The checkpoints in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[int, int | None] = {}  # the newest that are known to be whole, and the best of each

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the last two and their best. Raises OSError; older ones then stay."""
        publish(self._path(checkpoint.epoch), _encoded(checkpoint), self._folder)
        self._kept[checkpoint.epoch] = checkpoint.best
        self._kept = dict(sorted(self._kept.items())[-KEPT:])
        needed = {*self._kept, *self._kept.values()}
        for epoch in self._epochs():
            if epoch not in needed:
                self._path(epoch).unlink(missing_ok=True)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, with a best one that is, or None; those after it are forgotten."""
        for epoch in reversed(self._epochs()):
            checkpoint = self.read(epoch)
            if checkpoint is not None and (checkpoint.best in (None, epoch) or self.read(checkpoint.best)):
                self._kept = {epoch: checkpoint.best}
                return checkpoint
        return None

    def read(self, epoch: int | None) -> Checkpoint | None:
        """The checkpoint of an epoch; None where it is not there or not whole."""
        if epoch is None:
            return None
        try:
            found = _decoded(self._path(epoch).read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if found.epoch == epoch else None

    def _epochs(self) -> list[int]:
        return sorted(int(path.stem.removeprefix("epoch-")) for path in self._folder.glob("epoch-*.checkpoint"))

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:05d}.checkpoint"


def _encoded(checkpoint: Checkpoint) -> bytes:
    import numpy as np

    buffer = BytesIO()
    document = {"epoch": checkpoint.epoch, "best": checkpoint.best, "state": checkpoint.state}
    buffer.write(json.dumps({**document, "arrays": list(checkpoint.arrays)}).encode() + b"\n")
    for array in checkpoint.arrays.values():
        np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
    data = buffer.getvalue()
    return digest_of_bytes(data).encode() + b"\n" + data


def _decoded(data: bytes) -> Checkpoint:
    """Raises ValueError, KeyError or TypeError where it is not whole."""
    import numpy as np

    digest, _, content = data.partition(b"\n")
    if digest.decode("ascii", "replace") != digest_of_bytes(content):
        raise ValueError("the digest does not hold")
    buffer = BytesIO(content)
    document = json.loads(buffer.readline())
    arrays = {name: np.lib.format.read_array(buffer, allow_pickle=False) for name in document["arrays"]}
    return Checkpoint(document["epoch"], document["best"], document["state"], arrays)
