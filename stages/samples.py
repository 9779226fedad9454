"""Samples as stages pass them on: whether they fit a model, and calibration sets as bytes that follow from the numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import TensorSpec

CALIBRATION_FILE = "calibration.npy"
CALIBRATION_MEDIA_TYPE = "application/x-npy"


def misfit(batch_shape: Sequence[int], spec: TensorSpec) -> str | None:
    """Why inputs of `batch_shape` (N, …) don't fit the model's input, or None; free sizes of the model fit any."""
    sample, wanted = tuple(batch_shape[1:]), spec.shape[1:]
    fits = len(sample) == len(wanted) and all(size in (None, n) for size, n in zip(wanted, sample, strict=True))
    if fits:
        return None
    return f"samples are {_text(sample)}, the model's input {spec.name!r} takes {_text(wanted)}"


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


def _text(shape: Sequence[int | None]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape) or "single numbers"
