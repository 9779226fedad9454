"""The first layer at which an exported file leaves its Keras model, found by comparing tensors, not names.

Names are lost on the way to a file (ours in ONNX are structural), layers are fused, and layouts change. So every
layer's output is compared with every tensor of as many numbers, in both layouts; a tensor speaks for the layer that it
is nearest to. A layer is right when a tensor reproduces it, or when a layer that depends on it is right: what was fused
into another leaves no tensor of its own. The first layer that is not right is where the two part.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.agreement import Agreement, agreements
from stages.file_tensors import FileTensor
from stages.layer_calls import LayerCall

SAME_DB = 80.0  # from here on two tensors are one but for rounding


def describe_divergence(calls: Sequence[LayerCall], tensors: Sequence[FileTensor], limit_db: float) -> str:
    """One sentence on where the file leaves the model: a layer agrees from `limit_db` of signal to noise on."""
    found = agreements(calls, tensors)
    right = _right(calls, {place for place, agreement in found.items() if agreement.sqnr_db >= limit_db})
    wrong = next((place for place in range(len(calls)) if place not in right), None)
    if wrong is not None:
        before = _last_agreeing(calls, wrong, found, limit_db)
        text = f"the first layer that differs is {calls[wrong].layer!r}"
        return text if before is None else f"{text}; {calls[before].layer!r} before it agrees ({found[before].tensor})"
    if not found:
        return "no layer could be compared"
    worst = min(found, key=lambda place: found[place].sqnr_db)
    if found[worst].sqnr_db >= max(limit_db, SAME_DB):
        return "each layer's output is found among the file's tensors: what differs comes after them, or in a delegate"
    return (
        f"no single layer is that far off: the difference grows on the way, "
        f"most by {calls[worst].layer!r} ({found[worst].sqnr_db:.0f} dB)"
    )


def _right(calls: Sequence[LayerCall], agreeing: set[int]) -> set[int]:
    """The calls that agree, and all that they depend on."""
    right, pending = set(agreeing), list(agreeing)
    while pending:
        new = calls[pending.pop()].reads - right
        right |= new
        pending.extend(new)
    return right


def _last_agreeing(calls: Sequence[LayerCall], place: int, found: dict[int, Agreement], limit_db: float) -> int | None:
    seen, pending = set(calls[place].reads), sorted(calls[place].reads)
    while pending:
        nearest = pending.pop()
        if nearest in found and found[nearest].sqnr_db >= limit_db:
            return nearest
        new = calls[nearest].reads - seen
        seen |= new
        pending = sorted([*pending, *new])
    return None
