"""Store calibration sets as files: one array of float32 samples for each input of a model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

CALIBRATION_FILE = "calibration.npy"  # of a model with one input; see `calibration_files`
CALIBRATION_MEDIA_TYPE = "application/x-npy"


def calibration_files(inputs: int) -> tuple[str, ...]:
    """Return the file names of a calibration set, one for each model input, in the model's order."""
    return (CALIBRATION_FILE,) if inputs == 1 else tuple(f"calibration-{index}.npy" for index in range(inputs))


def encode_samples(samples: Any) -> bytes:
    """Return the `.npy` bytes of samples (N, …): C order, little-endian float32."""
    import numpy as np

    buffer = io.BytesIO()
    # All of the form is named: the bytes are digested, and numpy's own choices must not change keys.
    np.lib.format.write_array(buffer, np.ascontiguousarray(samples, dtype="<f4"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def decode_samples(path: Path) -> Any:
    """Return the samples stored at `path` (any name), float32 (N, …)."""
    import numpy as np

    return np.load(path, allow_pickle=False)
