"""Fold batch normalization into the layer before it: in inference it is a factor and an offset for each channel.

With `s = gamma / sqrt(variance + epsilon)`, its result on a convolution's outputs is that of a convolution with kernels
`s * kernel` and bias `s * bias + beta - s * mean` (Jacob et al., "Quantization and training of neural networks for
efficient integer-arithmetic-only inference", 2018, section 3.2). Padding applies to inputs, so it is not affected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.keras.layer_kinds import kind_of
from stages.keras.layer_work import of_keras
from stages.keras.stripping.usage import Usage, nodes_of
from stages.keras.tensorflow import import_keras


@dataclass(frozen=True)
class Fold:
    """Pair a batch normalization with the layer that absorbs it."""

    producer: Any
    norm: Any

    def __str__(self) -> str:
        return f"{self.norm.name} into {self.producer.name}"

    def weights(self) -> list[Any]:
        """Return the producer's weights with the normalization in them, always including a bias."""
        scale, offset = scale_and_offset(self.norm)
        *others, bias = self.producer.get_weights() if self.producer.use_bias else (*self.producer.get_weights(), 0.0)
        *others, kernel = others
        shape = [1] * kernel.ndim
        for axis in kind_of(self.producer).kernels[-1].outputs:
            shape[axis] = kernel.shape[axis]
        # `scale` and `offset` are float64: each weight is rounded once, when it is stored.
        new = (kernel * scale.reshape(shape), bias * scale + offset)
        return [*others, *(array.astype(kernel.dtype) for array in new)]


def scale_and_offset(norm: Any) -> tuple[Any, Any]:
    """Return what the normalization multiplies each channel by, and then adds, in float64."""
    import numpy as np

    mean, variance = (np.float64(weight.numpy()) for weight in (norm.moving_mean, norm.moving_variance))
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    return scale, (norm.beta.numpy() if norm.center else 0.0) - mean * scale


def find_folds(usage: Usage) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Return what can be folded, including nested models, and for each other batch normalization why it can't."""
    folds, kept = [], []
    for level in usage.levels:
        readers = Counter(id(tensor) for node in nodes_of(level) for tensor in node.keras_inputs)
        # An output of the model is read by whoever calls it.
        readers.update(id(tensor) for tensor in level.outputs)
        for node in _normalizations(level):
            obstacle = _obstacle(node, usage, readers)
            if obstacle:
                kept.append(f"{node.layer.name}: {obstacle}")
            else:
                folds.append(Fold(_producer(node), node.layer))
    return tuple(folds), tuple(dict.fromkeys(kept))


def _normalizations(level: Any) -> Iterator[Any]:
    return (node for node in nodes_of(level) if kind_of(node.layer).folds)


def _producer(node: Any) -> Any:
    return node.keras_inputs[0]._keras_history.layer  # noqa: SLF001 - Keras' only way from a tensor to its layer


def _obstacle(node: Any, usage: Usage, readers: Counter[int]) -> str | None:
    """Return why the batch normalization called at `node` stays, or None."""
    norm, producer, tensor = node.layer, _producer(node), node.keras_inputs[0]
    if id(norm) in usage.in_training:
        return "it is called with training=True, and normalizes by the batch"
    if not (kind_of(producer).absorbs and of_keras(producer)):
        return f"{producer.name} ({type(producer).__name__}) before it has no kernel to take it over"
    if producer.activation is not import_keras().activations.linear:
        return f"{producer.name} before it has an activation"
    for layer in (norm, producer):
        if usage.calls[id(layer)] > 1:
            return f"{layer.name} is called more than once"
        if layer.compute_dtype != "float32":
            return f"{layer.name} computes in {layer.compute_dtype}"
    if readers[id(tensor)] > 1:
        return f"the outputs of {producer.name} are used elsewhere too"
    return _obstacle_inside(norm, producer, len(tensor.shape))


def _obstacle_inside(norm: Any, producer: Any, rank: int) -> str | None:
    import numpy as np

    first = getattr(producer, "data_format", "channels_last") == "channels_first"
    if list(norm.axis) != [1 if first else rank - 1]:
        return f"it normalizes axis {list(norm.axis)}, not the channels"
    if getattr(producer, "groups", 1) != 1 and "Transpose" in type(producer).__name__:
        return f"{producer.name} is transposed and grouped"
    if getattr(norm, "virtual_batch_size", None) is not None:
        return "it has virtual batches"
    if not all(np.isfinite(part).all() for part in scale_and_offset(norm)):
        return "its statistics give no finite factor"
    return None
