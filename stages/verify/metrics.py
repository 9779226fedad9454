"""Accuracy, with its interval: one piece of code for Keras models and for every exported file."""

from __future__ import annotations

from math import sqrt
from typing import Any

Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


def count_correct(outputs: Any, labels: Any) -> int:
    """How many of N samples are classified right: by the largest of (N, classes), or by (N, 1) above one half."""
    import numpy as np

    outputs = np.asarray(outputs)
    classes = outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).astype(np.int64)
    return int(np.sum(classes == np.reshape(labels, -1)))


def wilson_interval(correct: int, samples: int, z: float = Z_95) -> tuple[float, float]:
    """The 95 % interval of a share (E. B. Wilson, 1927): within 0 and 1, and right near both ends."""
    if samples <= 0:
        raise ValueError("an interval needs at least one sample")
    share, square = correct / samples, z * z
    center = (share + square / (2 * samples)) / (1 + square / samples)
    half = z / (1 + square / samples) * sqrt(share * (1 - share) / samples + square / (4 * samples * samples))
    # At the ends the exact bounds are 0 and 1, which the sums miss by a rounding.
    low = 0.0 if correct == 0 else max(0.0, center - half)
    high = 1.0 if correct == samples else min(1.0, center + half)
    return low, high
