"""Match tensors of an exported file to layers' outputs by values: conversion loses names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.formats.format import FileTensor
from stages.formats.layers.parity import decibels
from stages.keras.layer_calls import LayerCall

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Layers with equal outputs (an identity after a sum) tie; this much is left for rounding in their scores.
TIE_DB = 1e-6
CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


@dataclass(frozen=True, slots=True)
class Agreement:
    """Hold the tensor of the file nearest to a layer's output, how near, and its numbers in the layer's order."""

    sqnr_db: float
    tensor: str
    flat: NDArray[Any]


def agreements(calls: Sequence[LayerCall], tensors: Sequence[FileTensor]) -> dict[int, Agreement]:
    """Return, by place of a call, the tensor that represents it."""
    import numpy as np

    nearest: dict[int, Agreement] = {}
    outputs = [
        (position, values) for position, call in enumerate(calls) for values in call.outputs if values.dtype.kind == "f"
    ]
    # Only tensors of one size can be equal: comparing by size keeps the table of scores small.
    for size in sorted({values.size for _, values in outputs}):
        references = [(position, values.ravel()) for position, values in outputs if values.size == size]
        variants = [(t.name, flat) for t in tensors if t.values.size == size for flat in layouts(t.values)]
        variants = [(name, flat) for name, flat in variants if np.isfinite(flat).all()]
        if not variants:
            continue
        found_scores = scores([flat for _, flat in references], [flat for _, flat in variants])
        for column, (name, flat) in enumerate(variants):
            # A tensor represents only the layers that it is nearest to. Else the output of a large sum would also be a
            # fair match for each of its terms.
            for row in np.flatnonzero(found_scores[:, column] >= found_scores[:, column].max() - TIE_DB):
                position, score = references[row][0], float(found_scores[row, column])
                if position not in nearest or score > nearest[position].sqnr_db:
                    nearest[position] = Agreement(score, name, flat)
    return nearest


def call_scores(calls: Sequence[LayerCall], tensor: FileTensor) -> dict[int, float]:
    """Score a tensor against the output of each call of equal size, by the call's place, in either layout."""
    import numpy as np

    flats = [flat for flat in layouts(tensor.values) if np.isfinite(flat).all()]
    best: dict[int, float] = {}
    for position, call in enumerate(calls):
        for values in call.outputs:
            if flats and values.dtype.kind == "f" and values.size == flats[0].size:
                best[position] = max(best.get(position, -np.inf), float(scores([values.ravel()], flats).max()))
    return best


def layouts(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Return its numbers flattened, in stored order and with channels last."""
    order = CHANNELS_LAST.get(values.ndim)
    return [values.ravel(), *([values.transpose(order).ravel()] if order else [])]


def scores(references: Sequence[NDArray[Any]], candidates: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return signal to noise in dB, (references, candidates)."""
    import numpy as np

    # Sums of squares of a whole feature map lose the small differences in float32.
    others = np.stack(candidates).astype(np.float64)
    rows = []
    for reference in references:
        signal = reference.astype(np.float64)
        rows.append(decibels(np.square(signal).sum(), np.square(others - signal).sum(axis=1)))
    stacked = np.stack(rows)
    return np.where(np.isfinite(stacked), stacked, -np.inf)
