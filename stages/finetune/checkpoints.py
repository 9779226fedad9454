"""Write checkpoints of training: each whole or absent, verified on reading, the last two and the best kept.

A checkpoint is one file, renamed into place when it is complete: a digest of all that follows, a line of JSON with
plain data, and arrays. If its digest does not match, or its best epoch's doesn't, the previous one is used.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.records.keys import digest_of_bytes
from pipeline.store.files import publish

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = 2
CHECKPOINT = re.compile(r"epoch-(?P<epoch>[0-9]{5,9})\.checkpoint")


@dataclass(frozen=True)
class Checkpoint:
    """Hold the state after an epoch: `epoch` counts finished ones, `state` is plain data, `arrays` are keyed by name.

    `best` is the epoch whose checkpoint holds the best weights so far, None while no epoch counts.
    """

    epoch: int
    best: int | None
    state: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]]


class Checkpoints:
    """Manage the checkpoints in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[int, int | None] = {}  # the newest known to be whole, and the best of each

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the last two and their best. Raises OSError; older ones then stay."""
        path = self._path(checkpoint.epoch)
        if path.is_dir():  # nothing that is written replaces a folder
            shutil.rmtree(path)
        # Its temporary files begin with `tmp`, so that half a checkpoint is nothing to resume from
        # (`Store.can_resume`).
        publish(path, _encoded(checkpoint), self._folder)
        self._kept[checkpoint.epoch] = checkpoint.best
        self._kept = dict(sorted(self._kept.items())[-KEPT:])
        # Only now: until the new one is whole, a kill falls back on these.
        needed = {*self._kept, *self._kept.values()}
        for epoch in self._epochs():
            if epoch not in needed:
                self._path(epoch).unlink(missing_ok=True)

    def latest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint whose best one is whole, or None; those after it are forgotten."""
        for epoch in reversed(self._epochs()):
            checkpoint = self.read(epoch)
            if checkpoint is not None and (checkpoint.best in (None, epoch) or self.read(checkpoint.best)):
                self._kept = {epoch: checkpoint.best}
                return checkpoint
        return None

    def read(self, epoch: int | None) -> Checkpoint | None:
        """Return the checkpoint of an epoch; None if it is missing or damaged."""
        if epoch is None:
            return None
        try:
            checkpoint = _decoded(self._path(epoch).read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return checkpoint if checkpoint.epoch == epoch else None

    def _epochs(self) -> list[int]:
        found = map(CHECKPOINT.fullmatch, (path.name for path in self._folder.glob("epoch-*") if path.is_file()))
        return sorted(int(match["epoch"]) for match in found if match)

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
    """Decode a checkpoint; raises ValueError, KeyError or TypeError if it is damaged."""
    import numpy as np

    digest, _, content = data.partition(b"\n")
    if digest.decode("ascii", "replace") != digest_of_bytes(content):
        raise ValueError("the digest does not hold")
    buffer = BytesIO(content)
    document = json.loads(buffer.readline())
    arrays = {name: np.lib.format.read_array(buffer, allow_pickle=False) for name in document["arrays"]}
    return Checkpoint(document["epoch"], document["best"], document["state"], arrays)
