"""Store calibration sets as files: one array of float32 samples for each input of a model."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.contracts.stage import StageContext
from pipeline.records.artifacts import Artifact
from pipeline.records.facts import CalibrationFacts, QuantizedFacts
from stages.keras.normal_form import MODEL_FILE

CALIBRATION_FILE = "calibration.npy"  # of a model with one input; see `calibration_files`
CALIBRATION_MEDIA_TYPE = "application/x-npy"
COST_SAMPLES = 8  # for a file that is only timed: ranges change its values, not its time


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


def write_calibration_set(context: StageContext[Any], arrays: Sequence[Any]) -> Artifact:
    """Store samples by model input, each (N, …), and return them as a calibration set."""
    files = tuple(
        context.write(name, encode_samples(samples), CALIBRATION_MEDIA_TYPE)
        for name, samples in zip(calibration_files(len(arrays)), arrays, strict=True)
    )
    return Artifact(files=files, facts=CalibrationFacts(samples=len(arrays[0])))


def hardly_calibrated(context: StageContext[Any], quantized: Artifact) -> Artifact:
    """Return a quantized model with few of its calibration samples: they take most of the time of an export.

    Only the cost of its file is that of the model's. One without calibration samples is returned as it is.
    """
    facts, files = quantized.facts, [file for file in quantized.names if file != MODEL_FILE]
    assert isinstance(facts, QuantizedFacts)
    if not files:
        return quantized
    few = write_calibration_set(
        context, [decode_samples(context.read_made(quantized, file))[:COST_SAMPLES] for file in files]
    )
    return Artifact(
        files=(quantized.file(MODEL_FILE), *few.files), facts=facts.model_copy(update={"calibration": few.digest})
    )
