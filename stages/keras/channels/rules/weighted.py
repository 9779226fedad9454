"""Handle layers with weights: convolutions of every kind, dense layers, embeddings.

Kernels end in (input channels, output channels); a transposed convolution's in (output, input), a depthwise one's in
(channels, multiplier), where output channel c·multiplier + j comes from input channel c.
"""

from __future__ import annotations

import numpy as np

from stages.keras.channels.labels import Call, CannotFollowError, Flow, Held, Ids, Labels, Role
from stages.keras.channels.rules.activations import activated
from stages.keras.channels.rules.table import rule, transparent


@rule("Conv1D", "Conv2D", "Conv3D")
def convolution(call: Call) -> Flow:
    """Handle a convolution; with `groups`, each block of the input makes one block of the output.

    A block must not become smaller than the others, so channels at the same place of each block go together. If each
    input channel is a block, it is a depthwise convolution by another name.
    """
    layer, axis, last = call.layer, call.data_axis, len(call.layer.kernel.shape) - 1
    call.only()
    read = call.read(axis)
    if 1 < layer.groups == read.size:
        return _depthwise_by_groups(call, read)
    made = call.make(layer.filters)
    if layer.groups > 1:
        call.couple_blocks(read, layer.groups)
        call.couple_blocks(made, layer.groups)
        read = read[: read.size // layer.groups]
    return Flow(
        outputs=(activated(call, Labels(axis, made)),),
        weights={
            "kernel": {last - 1: Held(read, Role.CONSUMER), last: Held(made, Role.PRODUCER)},
            "bias": {0: Held(made, Role.PRODUCER)},
        },
        sizes={("filters",): made},
    )


def _depthwise_by_groups(call: Call, read: Ids) -> Flow:
    made = np.repeat(read, call.layer.filters // read.size)
    held = Held(made, Role.PASS_THROUGH)
    return Flow(
        outputs=(activated(call, Labels(call.data_axis, made)),),
        weights={"kernel": {len(call.layer.kernel.shape) - 1: held}, "bias": {0: held}},
        sizes={("filters",): made, ("groups",): read},
    )


@rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed_convolution(call: Call) -> Flow:
    call.only()
    axis, last = call.data_axis, len(call.layer.kernel.shape) - 1
    read, made = call.read(axis), call.make(call.layer.filters)
    return Flow(
        outputs=(activated(call, Labels(axis, made)),),
        weights={
            "kernel": {last: Held(read, Role.CONSUMER), last - 1: Held(made, Role.PRODUCER)},
            "bias": {0: Held(made, Role.PRODUCER)},
        },
        sizes={("filters",): made},
    )


@rule("DepthwiseConv1D", "DepthwiseConv2D")
@transparent
def depthwise_convolution(call: Call, labels: Labels) -> Flow:
    """Filter each channel alone, `depth_multiplier` times."""
    read = call.read(call.data_axis)
    made = np.repeat(read, call.layer.depth_multiplier)
    channel_axis = len(call.layer.depthwise_kernel.shape) - 2
    return Flow(
        outputs=(activated(call, Labels(labels.axis, made)),),
        weights={
            "depthwise_kernel": {channel_axis: Held(read, Role.PASS_THROUGH)},
            "bias": {0: Held(made, Role.PASS_THROUGH)},
        },
    )


@rule("SeparableConv1D", "SeparableConv2D")
def separable_convolution(call: Call) -> Flow:
    """Handle a depthwise convolution and, inside the same layer, the pointwise one that sums over its channels."""
    layer, axis, last = call.layer, call.data_axis, len(call.layer.depthwise_kernel.shape) - 1
    call.only()
    read, made = call.read(axis), call.make(layer.filters)
    between = np.repeat(read, layer.depth_multiplier)
    return Flow(
        outputs=(activated(call, Labels(axis, made)),),
        weights={
            "depthwise_kernel": {last - 1: Held(read, Role.PASS_THROUGH)},
            "pointwise_kernel": {last - 1: Held(between, Role.CONSUMER), last: Held(made, Role.PRODUCER)},
            "bias": {0: Held(made, Role.PRODUCER)},
        },
        sizes={("filters",): made},
    )


@rule("Dense")
def dense(call: Call) -> Flow:
    """Handle a matrix on the last axis, at each position of the others."""
    call.only()
    axis = len(call.input_shapes[0]) - 1
    read, made = call.read(axis), call.make(call.layer.units)
    return Flow(
        outputs=(activated(call, Labels(axis, made)),),
        weights={
            "kernel": {0: Held(read, Role.CONSUMER), 1: Held(made, Role.PRODUCER)},
            "bias": {0: Held(made, Role.PRODUCER)},
        },
        sizes={("units",): made},
    )


@rule("Embedding")
def embedding(call: Call) -> Flow:
    """Handle a row for each integer; the table's columns are the channels."""
    if isinstance(call.only(), Labels):
        raise CannotFollowError("looks up what channels hold")
    made = call.make(call.layer.output_dim)
    return Flow(
        outputs=(Labels(len(call.output_shapes[0]) - 1, made),),
        weights={"embeddings": {1: Held(made, Role.PRODUCER)}},
        sizes={("output_dim",): made},
    )
