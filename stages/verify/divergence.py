"""Find the first layer at which an exported file diverges from its Keras model, by comparing tensors, not names.

Conversion loses names (ours in ONNX are structural), fuses layers, and changes layouts. So every layer's output is
compared with every tensor of equal size, in both layouts; a tensor represents the layer that it is nearest to. A layer
is right when a tensor reproduces it, or when a layer that depends on it is right: a fused layer leaves no separate
tensor. The first layer that is not right is where the two diverge.

An error may also be in one channel of a layer that agrees as a whole (a bias that was lost), and show only when a later
layer weights that channel most. So channels are examined individually, and a layer is blamed only if it does not
compute, from the file's inputs to it, the file's output: else the difference came from before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stages.formats.format import FileTensor
from stages.formats.layers.agreement import Agreement, agreements, scores
from stages.formats.layers.parity import decibels
from stages.keras.layer_calls import LayerCall

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAPS = 3  # axes of a tensor with several positions per channel
SAME_DB = 80.0  # from here on two tensors are equal except for rounding
OUTLIER = 6.0  # times the usual error of a layer's channels

# A layer's name and inputs to its output; None if it is not available.
Recompute = Callable[[str, "NDArray[Any]"], "NDArray[Any] | None"]


def describe_divergence(
    calls: Sequence[LayerCall], tensors: Sequence[FileTensor], limit_db: float, recompute: Recompute | None = None
) -> str:
    """Return one sentence on where the file diverges: a layer agrees from `limit_db` of signal to noise on.

    `recompute` runs one of the model's layers on other inputs.
    """
    matches = agreements(calls, tensors)
    agreeing = {position for position, agreement in matches.items() if agreement.sqnr_db >= limit_db}
    right = _right(calls, agreeing)
    # Shapes and indices are compared with nothing, and are folded or integers in the file: they can't be blamed.
    real = [position for position, call in enumerate(calls) if any(values.dtype.kind == "f" for values in call.outputs)]
    wrong = next((position for position in real if position not in right), None)
    for position in sorted(agreeing):
        channels = _wrong_channels(calls[position], matches[position], limit_db)
        if channels and (wrong is None or position < wrong):
            return _in_channels(calls, position, matches, limit_db, channels)
    if wrong is not None:
        before = _last_agreeing(calls, wrong, matches, limit_db)
        text = f"the first layer that differs is {calls[wrong].layer!r}"
        if recompute is not None and _came_to_it(calls, wrong, matches, limit_db, recompute):
            return (
                f"which layer differs first is not known: {calls[wrong].layer!r} is the first that is far off, but it "
                "computes what Keras does of what the file gives it, so that the difference comes from before it"
            )
        return (
            text if before is None else f"{text}; {calls[before].layer!r} before it agrees ({matches[before].tensor})"
        )
    if not matches:
        return "no layer could be compared"
    # A layer that was fused into a later one has no tensor: the nearest one says nothing about it.
    worst = min(agreeing, key=lambda position: matches[position].sqnr_db)
    if matches[worst].sqnr_db >= max(limit_db, SAME_DB):
        return "each layer's output is found among the file's tensors: what differs comes after them, or in a delegate"
    return (
        f"no single layer is that far off: the difference grows on the way, "
        f"most by {calls[worst].layer!r} ({matches[worst].sqnr_db:.0f} dB)"
    )


def _in_channels(
    calls: Sequence[LayerCall], position: int, matches: dict[int, Agreement], limit_db: float, channels: list[int]
) -> str:
    before = _last_agreeing(calls, position, matches, limit_db)
    several = (
        f"{len(channels)} channels (the first is {channels[0]})" if len(channels) > 1 else f"channel {channels[0]}"
    )
    call = calls[position]
    text = f"the first layer that differs is {call.layer!r}, in {several} of {call.outputs[0].shape[-1]}"
    return text if before is None else f"{text}; {calls[before].layer!r} before it agrees ({matches[before].tensor})"


def _wrong_channels(call: LayerCall, agreement: Agreement, limit_db: float) -> list[int]:
    """Return the channels (last axis) of a layer's output that are off far more than others, and beyond the limit.

    This requires several positions per channel, and an error that most channels do not have.
    """
    import numpy as np

    values = call.outputs[0]
    if values.ndim < MAPS or values.size != agreement.flat.size:
        return []
    wanted = values.astype(np.float64).reshape(-1, values.shape[-1])
    noise = np.square(agreement.flat.astype(np.float64).reshape(wanted.shape) - wanted).mean(axis=0)
    # Dead channels agree exactly: with them the usual error could be 0, and every other channel an outlier.
    others = noise[noise > 0]
    if not others.size:
        return []
    off = noise > OUTLIER**2 * np.median(others)  # squared: the noise is a power
    off &= decibels(np.square(wanted).mean(axis=0), noise) < limit_db
    wrong = np.flatnonzero(off)
    return [int(channel) for channel in wrong] if 2 * len(wrong) < len(noise) else []


def _came_to_it(
    calls: Sequence[LayerCall], position: int, matches: dict[int, Agreement], limit_db: float, recompute: Recompute
) -> bool:
    """Return whether a layer computes, from the file's inputs to it, the file's output."""
    call = calls[position]
    if len(call.reads) != 1 or position not in matches or len(call.outputs) != 1:
        return False
    (read,) = call.reads
    if read not in matches or matches[read].sqnr_db < limit_db:
        return False
    inputs = matches[read].flat.reshape(calls[read].outputs[0].shape)
    made = recompute(call.layer, inputs)
    if made is None or made.size != matches[position].flat.size:
        return False
    return bool(scores([made.ravel()], [matches[position].flat])[0, 0] >= limit_db)


def _right(calls: Sequence[LayerCall], agreeing: set[int]) -> set[int]:
    """Return the calls that agree, and all that they depend on."""
    right, pending = set(agreeing), list(agreeing)
    while pending:
        new = calls[pending.pop()].reads - right
        right |= new
        pending.extend(new)
    return right


def _last_agreeing(
    calls: Sequence[LayerCall], position: int, matches: dict[int, Agreement], limit_db: float
) -> int | None:
    seen, pending = set(calls[position].reads), sorted(calls[position].reads)
    while pending:
        nearest = pending.pop()
        if nearest in matches and matches[nearest].sqnr_db >= limit_db:
            return nearest
        new = calls[nearest].reads - seen
        seen |= new
        pending = sorted([*pending, *new])
    return None
