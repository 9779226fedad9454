"""Batch-normalisation statistics, measured anew.

Pruning changes what reaches a batch normalisation, and its moving mean and variance no longer describe that. Measuring
them anew needs no labels and no gradient, and recovers much of the accuracy (Li et al., "EagleEye", 2020; as PreciseBN
in Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from stages.keras.tensorflow import import_keras


def batch_normalisations(model: Any) -> list[Any]:
    """The model's batch normalisations, those of nested models and wrappers too."""
    return [part for part in model.submodules if isinstance(part, import_keras().layers.BatchNormalization)]


def recalibrate(model: Any, batches: Iterable[Any]) -> float:
    """Make the mean statistics over `batches` the moving ones, in place.

    Batches are arrays (N, …), or lists with one an input, and count by N. Only batch normalisations run as in
    training: dropout and noise stay out, weights stay as they are. Returns the mean shift of the moving means, in
    moving standard deviations as they were.
    """
    norms = batch_normalisations(model)
    before = [(norm.moving_mean.numpy(), norm.moving_variance.numpy()) for norm in norms]
    seen = 0
    with _counting_batches(norms):
        for batch in batches:
            count = len(batch[0]) if isinstance(batch, list) else len(batch)
            seen += count
            for norm in norms:
                norm.momentum = 1 - count / seen  # so that the moving average is the mean over all so far
            model(batch, training=False)
    shifts = [
        np.abs(norm.moving_mean.numpy() - mean) / np.sqrt(variance + norm.epsilon)
        for norm, (mean, variance) in zip(norms, before, strict=True)
    ]
    return float(np.concatenate(shifts).mean())


@contextmanager
def _counting_batches(norms: list[Any]) -> Iterator[None]:
    """Meanwhile `norms` run as in training, whatever the rest of the model does and whether they are trainable."""
    kept = [(norm, norm.momentum, norm.trainable, norm.__dict__.get("call")) for norm in norms]
    try:
        for norm in norms:
            norm.trainable = True  # one that is not uses its moving statistics even in training
            norm.call = _as_in_training(norm.call)
        yield
    finally:
        for norm, momentum, trainable, call in kept:
            del norm.call
            if call is not None:  # some layers have theirs on the instance
                norm.call = call
            norm.momentum, norm.trainable = momentum, trainable


def _as_in_training(call: Any) -> Any:
    def in_training(inputs: Any, training: Any = None, mask: Any = None) -> Any:  # noqa: ARG001 - Keras passes them
        return call(inputs, training=True)

    return in_training
