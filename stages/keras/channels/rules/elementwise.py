"""Handle layers that treat each channel alone and have no weights, and those known to mix channels.

Augmentation layers for images keep channels apart, and do nothing outside training.
"""

from __future__ import annotations

import numpy as np

from stages.keras.channels.labels import Call, CannotFollowError, Fixed, Flow, Labels
from stages.keras.channels.rules.activations import check_elementwise
from stages.keras.channels.rules.table import rule, transparent


@rule("InputLayer")
def model_input(call: Call) -> Flow:
    return Flow(tuple(Fixed(call.layer.name, "model input") for _ in call.output_shapes))


@rule("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "ActivityRegularization", "GaussianNoise", "GaussianDropout")
@rule("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "StochasticDepth")
@rule("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast", "RandomBrightness")
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


@rule("MultiHeadAttention", "Attention", "AdditiveAttention")
def attention(_: Call) -> Flow:
    raise CannotFollowError("attention")


@rule("Dot")
def dot(_: Call) -> Flow:
    """Freeze: there is no weight between its inputs' channels and the sum over them that could be set to zero."""
    raise CannotFollowError("multiplies and sums its inputs")


@rule("Masking")
def masking(_: Call) -> Flow:
    raise CannotFollowError("masks by what all channels hold together")


@rule("Functional", "Sequential", "Model")
def nested_model(_: Call) -> Flow:
    raise CannotFollowError("nested model")
