"""A Keras model's outputs over a whole split."""

from __future__ import annotations

from typing import Any

from pipeline.data import Split
from stages.samples import Progress


def predict(model: Any, split: Split, batch: int, progress: Progress) -> Any:
    """The model's outputs (N, …) at inference, `batch` samples at a time; `progress` hears how many are done."""
    import numpy as np

    parts, done = [], 0
    for inputs, _ in split.batches(batch):
        parts.append(np.asarray(model(inputs, training=False)))
        done += len(inputs)
        progress(done, len(split))
    return np.concatenate(parts)
