"""Keep the tensors at which a walk through a network stands: a few of them in memory, more of them on disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import TfTensor

DISK_BYTES = 4 * 2**30  # of one front; a bigger one is not kept, and its calls run again
MEMORY_BYTES = 256 * 2**20  # of one front; there are two while a walk goes from one to the next

Tensors = dict[str, TfTensor]
STORED = frozenset(map(np.dtype, ("float16", "float32", "float64", "bool", "int8", "uint8", "int32", "int64")))


@dataclass(slots=True)
class Front:
    """Hold the tensors of each of `batches`, by their keys, with the masks that Keras attached to them."""

    folder: Path
    batches: int
    disk: float = DISK_BYTES
    memory: float = MEMORY_BYTES
    _in_memory: list[Tensors] | None = field(default_factory=list)
    _bytes: float = 0.0
    _added: int = 0

    def add(self, tensors: Tensors) -> bool:
        """Keep the tensors of the next batch; return whether there is room for all batches if they go on like this.

        If not, or if the tensors are none that can be kept, nothing is kept.
        """
        parts = _parts(tensors)
        self._bytes += sum(map(_bytes_of, parts.values()))
        self._added += 1
        expected = self._bytes / self._added * self.batches
        if self._added == 1 and expected > self.memory:
            self._in_memory = None
        if expected > max(self.disk, self.memory):
            self.close()
            return False
        if self._in_memory is not None:
            self._in_memory.append(tensors)
        else:
            _write(parts, self.folder / f"{self._added - 1}")
        return True

    def read(self, batch: int) -> Tensors:
        """Return the tensors of a batch."""
        return _read(self.folder / f"{batch}") if self._in_memory is None else self._in_memory[batch]

    def close(self) -> None:
        """Forget all tensors, and delete what is on disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._in_memory = []


def _parts(tensors: Tensors) -> Mapping[str, TfTensor]:
    """Return the tensors, and the masks that they have, by names for both."""
    masks = {key: getattr(tensor, "_keras_mask", None) for key, tensor in tensors.items()}
    return {"t" + key: tensor for key, tensor in tensors.items()} | {
        "m" + key: mask for key, mask in masks.items() if mask is not None
    }


def _bytes_of(tensor: TfTensor) -> float:
    """Return the bytes that a tensor takes; infinity for what can't be written: ragged, text, bfloat16."""
    if not isinstance(tensor, import_tensorflow().Tensor) or np.dtype(tensor.dtype.as_numpy_dtype) not in STORED:
        return math.inf
    return float(tensor.shape.num_elements() * tensor.dtype.size)


def _write(parts: Mapping[str, TfTensor], folder: Path) -> None:
    """Write a file for each part: an archive would have all bytes summed up twice."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        np.save(folder / f"{name}.npy", np.asarray(part))  # without the copy that `numpy()` makes


def _read(folder: Path) -> Tensors:
    convert = import_tensorflow().convert_to_tensor
    parts = {path.stem: convert(np.load(path, allow_pickle=False)) for path in folder.iterdir()}
    tensors = {name[1:]: tensor for name, tensor in parts.items() if name[0] == "t"}
    for name, mask in parts.items():
        if name[0] == "m":
            tensors[name[1:]]._keras_mask = mask  # noqa: SLF001 - where Keras looks for it
    return tensors
