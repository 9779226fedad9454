"""Share what tensors of all formats' files have in common: the range that 8 or 16 bits hold, and who reads whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.records.artifacts import Kind
from stages.formats.format import FileTensor

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

SMALL_BYTES = 2  # of a small quantized type
MATRIX = 2  # axes of a kernel, at least

# Returns the tensors of a file: `registry.file_tensors`, or `tensors_apart`, which runs in a child.
Tensors = Callable[[Kind, bytes | Path, Mapping[str, Any]], list[FileTensor]]


def ends_of(scale: float, zero_point: int, dtype: DTypeLike) -> tuple[float, float] | None:
    """Return the smallest and largest number of a quantized tensor; None if not quantized, or beyond 16 bits."""
    import numpy as np

    kind = np.dtype(dtype)
    if not scale or kind.kind not in "iu" or kind.itemsize > SMALL_BYTES:
        return None
    limits = np.iinfo(kind)
    return (float(limits.min) - zero_point) * float(scale), (float(limits.max) - zero_point) * float(scale)


def reads_of(ends: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> list[frozenset[int]]:
    """Return for each operator, given its inputs and outputs, the places of those whose outputs it reads."""
    maker = {output: index for index, (_, outputs) in enumerate(ends) for output in outputs}
    return [frozenset(maker[name] for name in inputs if name in maker) for inputs, _ in ends]
