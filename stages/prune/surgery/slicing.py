"""Slice weights to some of their channels, as tensors in memory that is written once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.channels.labels import Ids
from stages.keras.tensorflow import import_tensorflow

ALIGNMENT_BYTES = 64  # of tensors in TensorFlow (EIGEN_MAX_ALIGN_BYTES): computing with others crashes the process
BLOCK_BYTES = 8 * 2**20  # NumPy requests huge pages from 4 MB on
LARGE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _Slice:
    """Write what is left of `source`, given the indices that stay by axis, to `target`."""

    source: NDArray[Any]
    kept: Mapping[int, Ids]
    target: NDArray[Any]

    def write(self) -> None:
        """Use NumPy's `take`, axis by axis: with TensorFlow's `gather` EfficientNet-B7 took 1.7 times as long."""
        array = self.source
        *before, last = sorted(self.kept)  # less is left for the last, slowest axis
        for axis in before:
            array = array.take(self.kept[axis], axis)
        # Indices are never out of bounds, and in the default mode, "raise", NumPy buffers `out`.
        array.take(self.kept[last], last, out=self.target, mode="wrap")


class Slices:
    """Promise tensors one by one, without values, until `write` fills them all.

    They lie in few blocks of memory, so large that NumPy has the system back them by huge pages.
    """

    def __init__(self) -> None:
        self._promised: list[_Slice] = []
        self._free = np.empty(0, dtype=np.uint8)

    def promise(self, tensor: Any, kept: Mapping[int, Ids]) -> Any:
        """Return `tensor` with only the indices `kept`, by axis, of which there is at least one."""
        array = np.asarray(tensor)  # a view
        shape = tuple(kept[axis].size if axis in kept else size for axis, size in enumerate(array.shape))
        numbers = array.view(np.uint16) if array.dtype.kind == "V" else array  # bfloat16, which NumPy can't hand over
        target = self._memory(shape, numbers.dtype)
        self._promised.append(_Slice(numbers, kept, target))
        tf = import_tensorflow()
        promised = tf.experimental.dlpack.from_dlpack(target.__dlpack__())
        return promised if numbers is array else tf.bitcast(promised, tensor.dtype)

    def write(self) -> None:
        """Copy large slices with two threads: NumPy releases the GIL while it copies, and new pages are zeroed."""
        large = iter([piece for piece in self._promised if piece.source.nbytes >= LARGE_BYTES])
        with ThreadPoolExecutor(1) as pool:
            helper = pool.submit(_write, large)
            _write(large)
            helper.result()
        _write(piece for piece in self._promised if piece.source.nbytes < LARGE_BYTES)
        self._promised.clear()

    def _memory(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        size = prod(shape) * dtype.itemsize
        if size > self._free.size:
            block = np.empty(max(size, BLOCK_BYTES) + ALIGNMENT_BYTES, dtype=np.uint8)
            self._free = block[-block.ctypes.data % ALIGNMENT_BYTES :]
        taken, self._free = self._free[:size], self._free[-(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES :]
        return taken.view(dtype).reshape(shape)


def _write(slices: Iterable[_Slice]) -> None:
    for piece in slices:
        piece.write()
