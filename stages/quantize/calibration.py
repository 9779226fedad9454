"""Doubts about calibration samples: what is measured on them is what every later input is clipped to."""

from __future__ import annotations

from typing import Any

FEW_SAMPLES = 10


def doubts_about(samples: Any) -> tuple[str, ...]:
    """Why ranges measured on samples (N, …) may not hold for others; empty if there is no reason for doubt."""
    import numpy as np

    count = len(samples)
    doubts = []
    if count < FEW_SAMPLES:
        doubts.append(f"{count} calibration samples are few: ranges that they don't show will be clipped")
    flat = np.reshape(samples, (count, -1))
    if np.all(flat == flat[:, :1]):
        doubts.append("every calibration sample is one constant: the ranges will not be those of real inputs")
    elif count > 1 and np.all(flat == flat[0]):
        doubts.append("all calibration samples are the same: they count as one")
    return tuple(doubts)
