"""A Keras model's outputs over a whole split."""

from __future__ import annotations

from typing import Any

from pipeline.data import Split
from stages.samples import Progress, by_input


def predict(model: Any, split: Split, batch: int, progress: Progress) -> Any:
    """The model's one output (N, …) at inference, `batch` samples at a time; `progress` hears how many are done."""
    import numpy as np

    parts, done = [], 0
    for inputs, _ in split.batches(batch):
        arrays = by_input(inputs, model.input_names)
        parts.append(np.asarray(model(arrays if len(arrays) > 1 else arrays[0], training=False)))
        done += len(parts[-1])
        progress(done, len(split))
    return np.concatenate(parts)
