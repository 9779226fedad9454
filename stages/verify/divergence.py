"""The first layer at which an exported file leaves its Keras model, found by comparing tensors, not names.

Names are lost on the way to a file (ours in ONNX are structural), layers are fused, and layouts change. So every
layer's output is compared with every tensor of as many numbers, in both layouts; a tensor speaks for the layer that it
is nearest to. A layer is right when a tensor reproduces it, or when a layer that depends on it is right: what was fused
into another leaves no tensor of its own. The first layer that is not right is where the two part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.verify.intermediates import FileTensor
from stages.verify.parity import decibels
from stages.verify.recording import LayerCall

TIE_DB = 1e-6
CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


@dataclass(frozen=True, slots=True)
class Agreement:
    """The tensor of the file that is nearest to a layer's output, and how near it is."""

    sqnr_db: float
    tensor: str


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
    if found[worst].sqnr_db >= limit_db:
        return "each layer's output is found among the file's tensors: what differs comes after them, or in a delegate"
    return (
        f"no single layer is that far off: the difference grows on the way, "
        f"most by {calls[worst].layer!r} ({found[worst].sqnr_db:.0f} dB)"
    )


def agreements(calls: Sequence[LayerCall], tensors: Sequence[FileTensor]) -> dict[int, Agreement]:
    """By place of a call, the tensor that speaks for it."""
    import numpy as np

    found: dict[int, Agreement] = {}
    outputs = [
        (place, values) for place, call in enumerate(calls) for values in call.outputs if values.dtype.kind == "f"
    ]
    for size in sorted({values.size for _, values in outputs}):
        here = [(place, values.ravel()) for place, values in outputs if values.size == size]
        variants = [(t.name, flat) for t in tensors if t.values.size == size for flat in _layouts(t.values)]
        variants = [(name, flat) for name, flat in variants if np.isfinite(flat).all()]
        if not variants:
            continue
        scores = _scores([flat for _, flat in here], [flat for _, flat in variants])
        for column, (name, _) in enumerate(variants):
            for row in np.flatnonzero(scores[:, column] >= scores[:, column].max() - TIE_DB):
                place, score = here[row][0], float(scores[row, column])
                if place not in found or score > found[place].sqnr_db:
                    found[place] = Agreement(score, name)
    return found


def first_not_finite(calls: Sequence[LayerCall]) -> str | None:
    """The name of the first layer that gave NaN or infinity."""
    return next((call.layer for call in calls if not call.finite), None)


def _layouts(values: Any) -> list[Any]:
    order = CHANNELS_LAST.get(values.ndim)
    return [values.ravel(), *([values.transpose(order).ravel()] if order else [])]


def _scores(references: Sequence[Any], candidates: Sequence[Any]) -> Any:
    """Signal to noise in dB, (references, candidates)."""
    import numpy as np

    others = np.stack(candidates).astype(np.float64)
    rows = []
    for reference in references:
        signal = reference.astype(np.float64)
        rows.append(decibels(np.square(signal).sum(), np.square(others - signal).sum(axis=1)))
    scores = np.stack(rows)
    return np.where(np.isfinite(scores), scores, -np.inf)


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
