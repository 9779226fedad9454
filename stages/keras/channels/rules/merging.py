"""Handle layers that join tensors."""

from __future__ import annotations

import numpy as np

from stages.keras.channels.labels import Call, CannotFollowError, Flow, Ids, Labels
from stages.keras.channels.rules.table import rule


@rule("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
@rule("CustomScaleLayer")  # of InceptionResNetV2: a + scale · b
def merge(call: Call) -> Flow:
    """Couple the inputs' channels index by index. Inputs broadcast, aligned at the last axis as in Keras."""
    labelled = [
        (carried, len(shape))
        for carried, shape in zip(call.inputs, call.input_shapes, strict=True)
        if isinstance(carried, Labels)
    ]
    if not labelled:
        return Flow((call.inputs[0],))
    positions = {rank - labels.axis for labels, rank in labelled}  # counted from the end
    if len(positions) > 1:
        raise CannotFollowError("merges tensors with channels on different axes")
    position, output_shape = positions.pop(), call.output_shapes[0]
    size = output_shape[-position]
    return Flow((Labels(len(output_shape) - position, _coupled(call, position, size)),))


def _coupled(call: Call, position: int, size: int | None) -> Ids:
    """Couple the ids of inputs `size` wide at `position` from the end; those one wide are broadcast and stay."""
    wide: Ids | None = None
    for index, shape in enumerate(call.input_shapes):
        if len(shape) <= position:  # fewer axes: broadcast over channels
            continue
        ids = call.read(len(shape) - position, index)
        if ids.size != size:
            call.freeze(ids, "broadcast over channels")
        elif wide is None:
            wide = ids
        else:
            call.ledger.couple(wide, ids)
    if wide is None:
        raise CannotFollowError("merges tensors none of which has the output's channels")
    return wide


@rule("Concatenate")
def concatenate(call: Call) -> Flow:
    return joined(call, call.layer.axis)


def joined(call: Call, along: int) -> Flow:
    """Concatenate ids along the channel axis; along any other axis couple the inputs' channels."""
    axes = {carried.axis for carried in call.inputs if isinstance(carried, Labels)}
    if not axes:
        return Flow((call.inputs[0],))
    if len(axes) > 1:
        raise CannotFollowError("concatenates tensors with channels on different axes")
    axis = axes.pop()
    parts = [call.read(axis, index) for index in range(len(call.inputs))]
    if along % len(call.output_shapes[0]) == axis:
        return Flow((Labels(axis, np.concatenate(parts)),))
    for part in parts[1:]:
        call.ledger.couple(parts[0], part)
    return Flow((Labels(axis, parts[0]),))
