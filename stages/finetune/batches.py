"""Order training data by a pure function of seed and epoch, so that a resumed run sees the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.data import Split, Task
from pipeline.data.splits import Inputs, Targets
from pipeline.errors import SecateurError
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import TfTensor, TfTensors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tensorflow.data import Dataset

PREFETCHED_BATCHES = 2
# From a seed (2 numbers), inputs and labels of a batch to what the model is given: inputs, labels, maybe weights.
Transform = Callable[[TfTensor, TfTensors, TfTensors], tuple[TfTensors, ...]]


class Failures:
    """Keep the first error of ours in reading data: TensorFlow would replace it by its own, without our hint."""

    def __init__(self) -> None:
        self._first: SecateurError | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note errors where data is read."""
        try:
            yield
        except SecateurError as error:
            self._first = self._first or error
            raise

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise the noted error instead of whatever TensorFlow made of it."""
        try:
            yield
        except Exception:
            if self._first is None:
                raise
            raise self._first from None


def training_batches(
    split: Split,
    batch: int,
    seed: int,
    first_epoch: int,
    epochs: int,
    transform: Transform | None = None,
    failures: Failures | None = None,
) -> Dataset:
    """Return a `tf.data.Dataset` of (inputs, labels) over all epochs from `first_epoch` (from 0), one after another.

    Each epoch visits every sample once, in an order drawn from (seed, epoch); its last batch may be smaller. The seed
    of a batch's `transform` is drawn from seed, epoch and the batch's place. Unlabelled splits give (inputs,).
    """
    import numpy as np

    tf = import_tensorflow()
    random, spec, reading = tf.random.experimental, sample_spec(split), failures or Failures()

    def epoch_batches(epoch: TfTensor) -> Dataset:
        epoch_seed = tf.stack([seed, epoch])
        order = random.stateless_shuffle(tf.range(len(split)), seed=epoch_seed)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch).enumerate()
        return batches.map(lambda number, indices: (random.stateless_fold_in(epoch_seed, number), indices))

    def gather(indices: TfTensor) -> list[NDArray[Any]]:
        with reading.noted():
            parts: list[NDArray[Any]] = tf.nest.flatten(typed(split, *split.take(np.asarray(indices))))
            return parts

    def gathered(batch_seed: TfTensor, indices: TfTensor) -> tuple[TfTensors, ...]:
        parts = tf.py_function(gather, [indices], [part.dtype for part in tf.nest.flatten(spec)])
        for part, known in zip(parts, tf.nest.flatten(spec), strict=True):
            # What comes out of a `py_function` has no shape, and Keras needs the number of axes.
            part.set_shape(known.shape)
        sample = tf.nest.pack_sequence_as(spec, parts)
        return sample if transform is None else transform(batch_seed, sample[0], sample[1] if sample[1:] else None)

    dataset = tf.data.Dataset.range(first_epoch, epochs, output_type=tf.int32).flat_map(epoch_batches)
    dataset = dataset.map(gathered, num_parallel_calls=1, deterministic=True)
    return unsharded(dataset.prefetch(PREFETCHED_BATCHES))


def validation_batches(
    split: Split, batch: int, transform: Transform | None = None, failures: Failures | None = None
) -> Dataset:
    """Return a `tf.data.Dataset` of (inputs, labels), or of (inputs,) if there are none, in stored order."""
    tf = import_tensorflow()
    reading = failures or Failures()

    def stored() -> Iterator[tuple[Any, ...]]:
        with reading.noted():
            for inputs, labels in split.batches(batch):
                yield typed(split, inputs, labels)

    dataset = tf.data.Dataset.from_generator(stored, output_signature=sample_spec(split))
    return unsharded(dataset if transform is None else dataset.map(partial(transform, None)))


def typed(split: Split, inputs: Inputs, labels: Targets) -> tuple[Any, ...]:
    """Convert a batch for the model: class numbers as int64, other targets as float32, none if there are none."""
    if labels is None:
        return (inputs,)
    if isinstance(split.task, Mapping):
        return inputs, {name: _targets(labels[name], task) for name, task in split.task.items()}
    return inputs, _targets(labels, split.task)


def _targets(labels: NDArray[Any], task: Task) -> NDArray[Any]:
    import numpy as np

    return np.asarray(labels, np.int64 if task == "classes" else np.float32)


def sample_spec(split: Split) -> tuple[Any, ...]:
    """Return the shapes and types of batches of any size, from the first sample."""
    import numpy as np

    tf = import_tensorflow()
    first = typed(split, *split.take(np.arange(1)))
    spec: tuple[Any, ...] = tf.nest.map_structure(
        lambda part: tf.TensorSpec((None, *part.shape[1:]), part.dtype), first
    )
    return spec


def unsharded(dataset: Dataset) -> Dataset:
    """Return `dataset` for one machine with several devices: whole batches, each split among them."""
    tf = import_tensorflow()
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


def steps_per_epoch(samples: int, batch: int) -> int:
    """Return the batches in an epoch, including the smaller last one."""
    return -(-samples // batch)
