"""Layers that treat each channel alone and have no weights, and those known to mix channels."""

from __future__ import annotations

import numpy as np

from stages.prune.labels import Call, CannotFollowError, Fixed, Flow, Labels
from stages.prune.rules.activations import check_elementwise
from stages.prune.rules.table import rule, transparent


@rule("InputLayer")
def model_input(call: Call) -> Flow:
    return Flow(tuple(Fixed(call.layer.name, "model input") for _ in call.output_shapes))


@rule("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "ActivityRegularization", "GaussianNoise", "GaussianDropout")
@rule("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
@transparent
def elementwise(_: Call, labels: Labels) -> Flow:
    return Flow((labels,))


@rule("Dropout", "AlphaDropout")
@transparent
def dropout(call: Call, labels: Labels) -> Flow:
    noise_shape = call.layer.noise_shape
    if noise_shape is not None and noise_shape[labels.axis] not in (None, 1):
        raise CannotFollowError("dropout with a noise shape of fixed size")
    return Flow((labels,))


@rule("Activation")
@transparent
def activation(call: Call, labels: Labels) -> Flow:
    check_elementwise(call.layer.activation, labels, len(call.input_shapes[0]))
    return Flow((labels,))


@rule("Softmax")
@transparent
def softmax(call: Call, labels: Labels) -> Flow:
    rank = len(call.input_shapes[0])
    if labels.axis in {int(axis) % rank for axis in np.atleast_1d(call.layer.axis)}:
        raise CannotFollowError("softmax across channels")
    return Flow((labels,))


@rule("Rescaling")
@transparent
def rescaling(call: Call, labels: Labels) -> Flow:
    if np.ndim(call.layer.scale) or np.ndim(call.layer.offset):
        raise CannotFollowError("rescaling by a value for each channel")
    return Flow((labels,))


@rule("LayerNormalization", "GroupNormalization", "UnitNormalization")
@transparent
def normalisation_across_channels(_: Call, _labels: Labels) -> Flow:
    raise CannotFollowError("normalises across channels")


@rule("Functional", "Sequential", "Model")
def nested_model(_: Call) -> Flow:
    raise CannotFollowError("nested model")
