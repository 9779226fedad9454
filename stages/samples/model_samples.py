"""Provide samples to what computes over a data set: model inputs, labels if there are any, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.data import Split, Task
from pipeline.data.splits import at
from pipeline.data.targets import task_and_targets
from pipeline.errors import DataError, PreconditionError
from stages.keras.inputs import by_input
from stages.keras.types import KerasModel
from stages.samples.batches import misfit


@dataclass(frozen=True, slots=True)
class ModelSamples:
    """Provide `count` samples; `read(start, stop)` returns one float array per model input, and labels or None.

    `tasks` describes the labels, by the place of the model's output that they are for; asked for labels without a task,
    it raises DataError.
    """

    count: int
    read: Callable[[int, int], tuple[list[Any], Any]]
    tasks: Callable[[], Mapping[int, Task]] = dict

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int) -> Iterator[tuple[list[Any], Any]]:
        """Yield samples in order, `size` at a time (the last may be smaller): only one batch is in memory at a time."""
        for start in range(0, self.count, size):
            yield self.read(start, min(start + size, self.count))

    def first(self, count: int) -> ModelSamples:
        """Return the first `count` of them."""
        return replace(self, count=min(count, self.count))


def samples_of(model: KerasModel, data: Any) -> ModelSamples:
    """Make samples from a `Split`, from arrays (one, or a list with one per input), or from (inputs, labels).

    Raises DataError if they don't fit the model.
    """
    if isinstance(data, ModelSamples):
        return data
    if isinstance(data, Split):
        return _samples_of_split(model, data)
    inputs, labels = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    arrays = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    if len(arrays) != len(model.inputs):
        raise PreconditionError(
            f"data holds {len(arrays)} arrays, the model has {len(model.inputs)} inputs", where=model.name
        )
    _check(model, [np.shape(array) for array in arrays])
    dtypes = [tensor.dtype.as_numpy_dtype for tensor in model.inputs]

    def read(start: int, stop: int) -> tuple[list[Any], Any]:
        cut = [np.asarray(array[start:stop], dtype) for array, dtype in zip(arrays, dtypes, strict=True)]
        return cut, None if labels is None else labels[start:stop]

    def tasks() -> Mapping[int, Task]:
        if labels is None or len(model.outputs) > 1:
            return {}
        return {0: task_and_targets(np.asarray(labels), None, model.name)[0]}

    return ModelSamples(len(arrays[0]), read, tasks)


def _samples_of_split(model: KerasModel, split: Split) -> ModelSamples:
    names = split.input_names or model.input_names
    if set(names) != set(model.input_names):
        what = f"the data has inputs {', '.join(names)}, the model {', '.join(model.input_names)}"
        raise DataError(what, where=model.name)
    shapes = dict(zip(names, split.input_shapes(), strict=True))
    _check(model, [(len(split), *shapes[name]) for name in model.input_names])

    def read(start: int, stop: int) -> tuple[list[Any], Any]:
        return by_input(split.inputs(start, stop), model.input_names), at(split.y, slice(start, stop))

    def tasks() -> Mapping[int, Task]:
        outputs = model.output_names if split.output_names or len(model.outputs) == 1 else ()
        views = [split.of_output(name) for name in outputs]
        return {index: view.task for index, view in enumerate(views) if isinstance(view.task, str) and view.labelled}

    return ModelSamples(len(split), read, tasks)


def _check(model: KerasModel, shapes: list[Any]) -> None:
    from stages.keras.normal_form import tensor_spec

    for shape, tensor, name in zip(shapes, model.inputs, model.input_names, strict=True):
        reason = misfit(shape, tensor_spec(tensor, name))
        if reason:
            raise DataError(f"the data does not fit the model: {reason}", where=model.name)
