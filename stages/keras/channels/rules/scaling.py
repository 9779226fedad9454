"""Handle layers that scale or shift each channel by its own weights or constants, and those that normalize."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.keras.channels.labels import Call, CannotFollowError, Constant, Flow, Held, Labels, Path, Role
from stages.keras.channels.rules.table import rule, transparent


@rule("BatchNormalization", "SyncBatchNormalization")
@transparent
def batch_normalization(call: Call, labels: Labels) -> Flow:
    if list(np.atleast_1d(call.layer.axis)) != [labels.axis]:
        raise CannotFollowError("batch normalization along another axis than the channels'")
    if getattr(call.layer, "renorm", False):
        raise CannotFollowError("batch renormalization")
    held = {0: Held(labels.ids, Role.PASS_THROUGH)}
    return Flow((labels,), weights=dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), held))


@rule("LayerNormalization", "GroupNormalization", "UnitNormalization")
@transparent
def normalization_within_a_sample(call: Call, labels: Labels) -> Flow:
    """Freeze, unless the channel axis is not normalized over: the rest would be scaled by other numbers after a cut."""
    rank = len(call.input_shapes[0])
    axes = {int(axis) % rank for axis in np.atleast_1d(call.layer.axis)}
    if labels.axis in axes or type(call.layer).__name__ == "GroupNormalization":
        raise CannotFollowError("normalizes across channels")
    return Flow((labels,))


@rule("PReLU")
@transparent
def prelu(call: Call, labels: Labels) -> Flow:
    """Handle `alpha`, which has the input's shape without the batch, 1 along shared axes."""
    if labels.axis in (call.layer.shared_axes or ()):
        return Flow((labels,))
    return Flow((labels,), weights={"alpha": {labels.axis - 1: Held(labels.ids, Role.PASS_THROUGH)}})


@rule("LayerScale")
@transparent
def layer_scale(call: Call, labels: Labels) -> Flow:
    """Handle ConvNeXt's factor for each channel of the last axis."""
    ids = call.read(len(call.input_shapes[0]) - 1)
    return Flow((labels,), weights={"gamma": {0: Held(ids, Role.PASS_THROUGH)}}, sizes={("projection_dim",): ids})


@rule("Rescaling")
@transparent
def rescaling(call: Call, labels: Labels) -> Flow:
    settings = {"scale": call.layer.scale, "offset": call.layer.offset}
    constants: dict[Path, Constant | None] = {
        (name,): per_channel(call, labels, value) for name, value in settings.items()
    }
    return Flow((labels,), constants=_those_held(constants))


@rule("Normalization")
@transparent
def normalization_by_constants(call: Call, labels: Labels) -> Flow:
    """Handle mean and variance for each index of some axes: weights if they were adapted, else in the configuration."""
    kept = list(call.layer._keep_axis)  # noqa: SLF001 - the axes that they have, ascending
    if labels.axis not in kept:
        return Flow((labels,))
    position = kept.index(labels.axis)
    if call.layer.input_mean is None:
        held = {position: Held(labels.ids, Role.PASS_THROUGH)}
        return Flow((labels,), weights={"adapt_mean": held, "adapt_variance": held})
    settings = {"mean": call.layer.input_mean, "variance": call.layer.input_variance}
    constants: dict[Path, Constant | None] = {
        (name,): _along(value, len(kept) - position, labels) for name, value in settings.items()
    }
    return Flow((labels,), constants=_those_held(constants))


def per_channel(call: Call, labels: Labels, value: Any) -> Constant | None:
    """Return what a constant that broadcasts with the call's first input holds for its channels, if anything."""
    rank = len(call.input_shapes[0])
    if np.ndim(value) > rank or len(call.output_shapes[0]) != rank:
        raise CannotFollowError("a constant with more axes than the tensor")
    return _along(value, rank - labels.axis, labels)


def _along(value: Any, position: int, labels: Labels) -> Constant | None:
    """Return the constant along the axis at `position` from the end, or None if one value applies to all channels."""
    shape = np.shape(value)
    if len(shape) < position or shape[-position] == 1:
        return None
    if shape[-position] != labels.ids.size:
        raise CannotFollowError("a constant broadcast over channels")
    return Constant(labels.ids, len(shape) - position)


def _those_held(constants: Mapping[Path, Constant | None]) -> dict[Path, Constant]:
    return {path: constant for path, constant in constants.items() if constant is not None}
