"""Batch samples: check whether they fit a model, and report progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.records.artifacts import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]  # done, total


def misfit(batch_shape: Sequence[int], spec: TensorSpec) -> str | None:
    """Return why inputs of `batch_shape` (N, …) don't fit the model's input, or None; free sizes fit any."""
    sample, wanted = tuple(batch_shape[1:]), spec.shape[1:]
    fits = len(sample) == len(wanted) and all(size in (None, n) for size, n in zip(wanted, sample, strict=True))
    if fits:
        return None
    return f"samples are {shape_text(sample)}, the model's input {spec.name!r} takes {shape_text(wanted)}"


def batches_of(count: int, size: int) -> Iterator[list[int]]:
    """Yield the indices of `count` samples in batches of exactly `size`; the last sample fills up the last one."""
    for start in range(0, count, size):
        # A sample that was there before: anything else would enter the ranges of a calibration.
        yield [min(index, count - 1) for index in range(start, start + size)]


def spread_over(count: int, most: int) -> NDArray[Any]:
    """Return the places, int64 in rising order, of at most `most` samples that are spread evenly over `count`."""
    import numpy as np

    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def unheard(_done: int, _total: int) -> None:
    """Ignore progress."""


def shape_text(shape: Sequence[int | None]) -> str:
    """Return `28×28×1`, with `?` for free sizes."""
    return "×".join("?" if size is None else str(size) for size in shape) or "single numbers"
