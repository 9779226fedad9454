"""Handle layers that change a tensor's shape but not its values, and pooling, which treats each channel alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from stages.keras.channels.labels import Call, CannotFollowError, Flow, Ids, Labels, Path, Shape
from stages.keras.channels.rules.table import rule, transparent


@rule("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D")
@rule("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping1D", "Cropping2D", "Cropping3D")
@rule("UpSampling1D", "UpSampling2D", "UpSampling3D")
@rule("Resizing", "CenterCrop", "RandomCrop", "RandomHeight", "RandomWidth")
@transparent
def spatial(call: Call, labels: Labels) -> Flow:
    return Flow((Labels(labels.axis, call.read(call.data_axis)),))


@rule("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D")
@rule("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D")
@transparent
def global_pooling(call: Call, labels: Labels) -> Flow:
    """Handle `keepdims`: with it spatial axes become 1, without they go; channels first stay at axis 1 either way."""
    ids = call.read(call.data_axis)
    return Flow((Labels(min(labels.axis, len(call.output_shapes[0]) - 1), ids),))


@rule("Flatten")
@transparent
def flatten(call: Call, labels: Labels) -> Flow:
    """Repeat the channel ids for each position, in memory order (Keras moves channels last before)."""
    grid = _grid(labels, call.input_shapes[0])
    if call.layer.data_format == "channels_first" and grid.ndim > 1:
        grid = np.moveaxis(grid, 0, -1)
    return Flow((Labels(1, grid.ravel()),))


@rule("Reshape")
@transparent
def reshape(call: Call, labels: Labels) -> Flow:
    return reshaped(call, labels, ("target_shape",), call.layer.target_shape, first=1)


def reshaped(call: Call, labels: Labels, path: Path, sizes: Sequence[int], first: int) -> Flow:
    """Follow channels if one axis of the result holds them and no other axis cuts through them.

    `path` leads to where the result's `sizes` are given, from axis `first` on.
    """
    source, target = call.input_shapes[0], call.output_shapes[0]
    known = None not in source[1:] and None not in target[1:]
    numbers = [prod(size or 1 for size in shape[1:]) for shape in (source, target)]
    if not known or numbers[0] != numbers[1]:  # some of the positions come from the batch, or go there
        if labels.axis != len(source) - 1 or len(target) == 1 or target[-1] != labels.ids.size:
            what = "moves channels into the batch, or out of it" if known else "reshapes a tensor of unknown size"
            raise CannotFollowError(what)
        result = Labels(len(target) - 1, labels.ids)
    else:
        result = _channel_axis(_grid(labels, source).reshape([size or 1 for size in target[1:]]))
    position = result.axis - first
    return Flow((result,), sizes={} if sizes[position] == -1 else {(*path, position): result.ids})


@rule("Permute")
@transparent
def permute(call: Call, labels: Labels) -> Flow:
    return Flow((Labels(1 + list(call.layer.dims).index(labels.axis), labels.ids),))


@rule("RepeatVector")
@transparent
def repeat_vector(_: Call, labels: Labels) -> Flow:
    return Flow((Labels(2, labels.ids),))


def _grid(labels: Labels, shape: Shape) -> Ids:
    """Return the id of each element of a sample: an array of the tensor's shape without the batch."""
    if None in shape[1:]:
        raise CannotFollowError("flattens a tensor of unknown size")
    sizes = [size or 1 for size in shape[1:]]
    line = [1] * len(sizes)
    line[labels.axis - 1] = -1
    return np.broadcast_to(labels.ids.reshape(line), sizes)


def _channel_axis(grid: Ids) -> Labels:
    """Return the only axis along which the ids of `grid` change."""
    changing = [axis for axis, size in enumerate(grid.shape) if size > 1 and (grid != grid.take([0], axis)).any()]
    if len(changing) != 1:
        raise CannotFollowError("reshapes the channel axis")
    axis = changing[0]
    return Labels(axis + 1, np.moveaxis(grid, axis, 0).reshape(grid.shape[axis], -1)[:, 0])
