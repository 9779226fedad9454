"""A Keras model's outputs over a whole split.

All exports of a model are held against the same outputs: the last ones are kept, by the digests of model and split.
"""

from __future__ import annotations

from typing import Any

from pipeline.data import Split
from pipeline.stage import StageContext
from stages.samples import Progress, by_input

_last: dict[tuple[str, str, int, int], Any] = {}


def shared_outputs(context: StageContext[Any], input_name: str, split: Split, batch: int, progress: Progress) -> Any:
    """The outputs (N, …) of the model of an input over `split`; don't change them, others get the same ones."""
    from stages.stored_models import shared_model
    from stages.tf_runtime import tensorflow_action

    key = (context.inputs[input_name].digest, split.digest, batch, context.threads)
    if key not in _last:
        with tensorflow_action(context.seed, context.threads):
            outputs = predict(shared_model(context, input_name), split, batch, progress)
        outputs.flags.writeable = False
        _last.clear()
        _last[key] = outputs
    return _last[key]


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
