"""Measure batch-normalization statistics again.

Pruning changes the inputs of a batch normalization, and its moving mean and variance no longer describe them. Measuring
them again needs no labels and no gradient, and recovers much of the accuracy (Li et al., "EagleEye", 2020; as PreciseBN
in Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel, TfTensor


def batch_normalizations(model: KerasModel) -> list[KerasLayer]:
    """Return the model's batch normalizations, including those of nested models and wrappers."""
    return [part for part in model.submodules if isinstance(part, import_keras().layers.BatchNormalization)]


def recalibrate(model: KerasModel, batches: Iterable[Any]) -> float:
    """Set the moving statistics to the mean statistics over `batches`, in place.

    Batches are arrays (N, …), or lists with one per input, and are weighted by N; so are the calls of a layer that a
    network calls several times. Only batch normalizations run as in training: dropout and noise are inactive, weights
    are unchanged. Returns the mean shift of the moving means, in previous moving standard deviations.
    """
    norms = batch_normalizations(model)
    before = [(norm.moving_mean.numpy(), norm.moving_variance.numpy()) for norm in norms]
    with _averaging(norms) as count:
        for batch in batches:
            count.samples = len(batch[0]) if isinstance(batch, list) else len(batch)
            model(batch, training=False)
    shifts = [
        np.abs(norm.moving_mean.numpy() - mean) / np.sqrt(variance + norm.epsilon)
        for norm, (mean, variance) in zip(norms, before, strict=True)
    ]
    return float(np.concatenate(shifts).mean())


@dataclass
class _Count:
    """Hold how many samples the batch that the model is called with has."""

    samples: int = 0


@contextmanager
def _averaging(norms: list[Any]) -> Iterator[_Count]:
    """Run `norms` as in training meanwhile, whatever the rest of the model does and whether they are trainable."""
    count = _Count()
    kept = [(norm, norm.momentum, norm.trainable, norm.__dict__.get("call")) for norm in norms]
    try:
        for norm in norms:
            norm.trainable = True  # one that is not uses its moving statistics even in training
            norm.call = _as_in_training(norm, count)
        yield count
    finally:
        for norm, momentum, trainable, call in kept:
            del norm.call
            if call is not None:  # some layers have theirs on the instance
                norm.call = call
            norm.momentum, norm.trainable = momentum, trainable


def _as_in_training(norm: KerasLayer, count: _Count) -> Callable[..., TfTensor]:
    call, seen = norm.call, 0

    def in_training(inputs: TfTensor, training: object = None, mask: TfTensor = None) -> TfTensor:  # noqa: ARG001 - Keras passes them
        nonlocal seen
        seen += count.samples
        norm.momentum = 1 - count.samples / seen  # so that the moving average is the mean over all calls so far
        return call(inputs, training=True)

    return in_training
