"""Choose the range of an int8 input so that no value lies halfway between two of its steps.

All 8-bit pixels that are scaled to -1…1 do so: 256 values on 255 steps, with zero being one of the steps. The direction
of rounding then depends on the last bit of their computation, so that `x / 127.5 - 1` and `x * (1 / 127.5) - 1` become
different codes. A range that is wider by one step has none of them halfway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOVING = frozenset({"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze"})  # ONNX operators that keep all values
# `findings/onnx_pixels_on_rounding_ties.sh` shows the ties, and that one step more has none.
STEPS = 255  # between the smallest and the largest of 8 bits
NEAR = 1e-3  # of a step: rounding in float32 moves a value by a hundredth of that
MANY = 0.05  # share of values halfway above which it is not by chance
TRIED_STEPS = 8
MOST_VALUES = 2**16
LEAST_VALUES = 16  # of each sample, if there are many


def off_the_ties(samples: Any, low: float, high: float) -> tuple[float, float]:
    """Return `low` and `high`, or both moved out by the smallest number of half steps that leaves no values halfway.

    Unchanged if few of the `samples` lie halfway, or if no wider range helps.
    """
    # Quantizers extend every range to zero, so that zeros (of padding) are exact.
    low, high = min(low, 0.0), max(high, 0.0)
    values = _some(samples)
    if half_way(values, low, high) < MANY:
        return low, high
    for more in range(1, TRIED_STEPS + 1):
        wider = (high - low) * STEPS / (STEPS - more)
        margin = (wider - (high - low)) / 2
        limits = (low - margin if low < 0 else low, high + margin if high > 0 else high)
        if half_way(values, *limits) < MANY / 10:
            return limits
    return low, high


def inputs_off_the_ties(
    graph: Any, ranges: Mapping[str, tuple[float, float]], samples: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Return the ranges of tensors of an ONNX graph by name, with those of its inputs kept off the values of `samples`.

    Ranges of tensors that only move an input's values follow: they have the input's scale.
    """
    changed = {name: off_the_ties(samples[name], *ranges[name]) for name in samples if name in ranges}
    for node in graph.node:
        if node.op_type in MOVING and node.input[0] in changed:
            changed |= dict.fromkeys(node.output, changed[node.input[0]])
    return {name: changed.get(name, limits) for name, limits in ranges.items()}


def half_way(values: Any, low: float, high: float) -> float:
    """Return the share of values that lie halfway between two steps of the range `low` (≤ 0) to `high` (≥ 0)."""
    import numpy as np

    if not high > low or not np.size(values):
        return 0.0
    steps = np.asarray(values, np.float64) * (STEPS / (high - low))
    return float(np.mean(np.abs(steps - np.floor(steps) - 0.5) < NEAR))


def _some(samples: Any) -> Any:
    """Return a bounded number of values of samples (N, …), at the same places of each, whatever their order."""
    import numpy as np

    rows = np.reshape(samples, (len(samples), -1))
    return rows[:, :: max(1, min(rows.size // MOST_VALUES, rows.shape[1] // LEAST_VALUES))]
