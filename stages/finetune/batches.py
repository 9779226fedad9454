"""The order of training data: a pure function of seed and epoch, so that a resumed run sees what it would have seen."""

from __future__ import annotations

from typing import Any

from pipeline.data import Split
from stages.tf_runtime import import_tensorflow

PREFETCHED_BATCHES = 2


def training_batches(split: Split, batch: int, seed: int, first_epoch: int, epochs: int) -> Any:
    """A `tf.data.Dataset` of (inputs, labels) over all epochs from `first_epoch` (from 0), one after the other.

    Each epoch visits every sample once, in an order drawn from (seed, epoch); its last batch may be smaller.
    """
    import numpy as np

    tf = import_tensorflow()

    def epoch_indices(epoch: Any) -> Any:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(split)), seed=tf.stack([seed, epoch]))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch)

    def gather(indices: Any) -> tuple[Any, Any]:
        inputs, labels = split.take(indices.numpy())
        return inputs, labels.astype(np.int64)

    def gathered(indices: Any) -> tuple[Any, Any]:
        inputs, labels = tf.py_function(gather, [indices], [tf.float32, tf.int64])
        inputs.set_shape((None, *split.input_shapes()[0]))
        labels.set_shape((None,))
        return inputs, labels

    dataset = tf.data.Dataset.range(first_epoch, epochs, output_type=tf.int32)
    dataset = dataset.flat_map(epoch_indices).map(gathered, num_parallel_calls=1, deterministic=True)
    return dataset.prefetch(PREFETCHED_BATCHES)


def validation_batches(split: Split, batch: int) -> Any:
    """A `tf.data.Dataset` of (inputs, labels), in stored order."""
    tf = import_tensorflow()
    shape = (None, *split.input_shapes()[0])
    signature = (tf.TensorSpec(shape, tf.float32), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(lambda: split.batches(batch), output_signature=signature)


def steps_per_epoch(samples: int, batch: int) -> int:
    """Batches in an epoch, the smaller last one included."""
    return -(-samples // batch)
