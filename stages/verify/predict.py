"""Compute a Keras model's outputs over a whole split, and on synthetic inputs.

All exports of a model are compared with the same outputs: the last ones are kept, by the digests of model and split.
Half-precision models compute in float32 here, like their files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.contracts.stage import StageContext
from pipeline.data import Split
from stages.keras.inputs import by_input
from stages.keras.types import KerasModel
from stages.samples.batches import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Which form it is follows from the model, which no checker sees.
Outputs: TypeAlias = Any  # an array (N, …), or a list with one for each of several outputs
Key = tuple[str, str, int, int]  # digests of model and split, samples at a time or in all, threads


class LastOutputs:
    """Hold the outputs that a run computed last, over a split and on synthetic inputs."""

    def __init__(self) -> None:
        self.on_split: dict[Key, Outputs] = {}
        self.on_synthetic: dict[Key, dict[str, dict[str, NDArray[Any]]]] = {}


def shared_outputs(
    context: StageContext[Any], input_name: str, split: Split, batch: int, progress: Progress
) -> Outputs:
    """Return the outputs (N, …) of an input's model over `split`, for one output; a list of them for several.

    Don't change them, others get the same ones.
    """
    from stages.keras.precision import untouched_in_float32
    from stages.keras.tensorflow import tensorflow_action

    # With the batch and the threads: in both cases kernels add up in another order, and last bits differ.
    key = (context.inputs[input_name].digest, split.digest, batch, context.threads)
    last = context.shared.of(LastOutputs).on_split
    if key not in last:
        with tensorflow_action(context.seed, context.threads):
            outputs = predict(untouched_in_float32(context, input_name), split, batch, progress)
        for array in outputs if isinstance(outputs, list) else [outputs]:
            array.flags.writeable = False
        last.clear()
        last[key] = outputs
    return last[key]


def predict(model: KerasModel, split: Split, batch: int, progress: Progress) -> Outputs:
    """Return the model's outputs (N, …) at inference, `batch` samples at a time; `progress` hears how many are done."""
    import numpy as np

    parts: list[list[NDArray[Any]]] = []
    done = 0
    for inputs, _ in split.batches(batch):
        arrays = by_input(inputs, model.input_names)
        parts.append(run_keras(model, arrays))
        done += len(parts[-1][0])
        progress(done, len(split))
    outputs = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return outputs if len(outputs) > 1 else outputs[0]


def run_keras(model: KerasModel, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the outputs of one batch at inference, one array (n, …) per output."""
    import numpy as np

    results = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    return [np.asarray(result) for result in (results if isinstance(results, list | tuple) else [results])]


def shared_made_up(
    context: StageContext[Any], input_name: str, split: Split, samples: int, sets: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the outputs by set and name on the synthetic `sets` that follow from `samples` samples of `split`."""
    from stages.keras.precision import reference_in_float32
    from stages.keras.tensorflow import tensorflow_action

    key = (context.inputs[input_name].digest, split.digest, samples, context.threads)
    last = context.shared.of(LastOutputs).on_synthetic
    if key not in last:
        with tensorflow_action(context.seed, context.threads):
            model = reference_in_float32(context, input_name)
            outputs = {
                name: dict(zip(model.output_names, run_keras(model, by_input(arrays, model.input_names)), strict=True))
                for name, arrays in sets.items()
            }
        last.clear()
        last[key] = outputs
    return last[key]
