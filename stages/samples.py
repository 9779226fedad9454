"""Samples as stages pass them on: do they fit a model, calibration sets as bytes, and who hears how many are done."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import TensorSpec

CALIBRATION_FILE = "calibration.npy"  # of a model with one input; see `calibration_files`
CALIBRATION_MEDIA_TYPE = "application/x-npy"

Progress = Callable[[int, int], None]  # done, total


def misfit(batch_shape: Sequence[int], spec: TensorSpec) -> str | None:
    """Why inputs of `batch_shape` (N, …) don't fit the model's input, or None; free sizes of the model fit any."""
    sample, wanted = tuple(batch_shape[1:]), spec.shape[1:]
    fits = len(sample) == len(wanted) and all(size in (None, n) for size, n in zip(wanted, sample, strict=True))
    if fits:
        return None
    return f"samples are {_text(sample)}, the model's input {spec.name!r} takes {_text(wanted)}"


def by_input(inputs: Any, names: Sequence[str]) -> list[Any]:
    """Inputs as a split gives them (one array, or a dict by name) in the order of the model's input `names`."""
    return [inputs[name] for name in names] if isinstance(inputs, Mapping) else [inputs]


def calibration_files(inputs: int) -> tuple[str, ...]:
    """The names of the files of a calibration set, one for each of so many model inputs, in the model's order."""
    return (CALIBRATION_FILE,) if inputs == 1 else tuple(f"calibration-{place}.npy" for place in range(inputs))


def as_arrays(samples: Any) -> list[Any]:
    """One array an input: of several inputs as they are, of one in a list."""
    return list(samples) if isinstance(samples, list | tuple) else [samples]


def encode_samples(samples: Any) -> bytes:
    """The `.npy` bytes of samples (N, …): C order, little-endian float32."""
    import numpy as np

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(samples, dtype="<f4"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def decode_samples(path: Path) -> Any:
    """The samples stored at `path` (any name), float32 (N, …)."""
    import numpy as np

    return np.load(path, allow_pickle=False)


def batches_of(count: int, size: int) -> Iterator[list[int]]:
    """The indices of `count` samples in batches of exactly `size`; the last sample is repeated to fill the last one."""
    for start in range(0, count, size):
        yield [min(index, count - 1) for index in range(start, start + size)]


def unheard(_done: int, _total: int) -> None:
    """The progress that nobody listens to."""


def _text(shape: Sequence[int | None]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape) or "single numbers"
