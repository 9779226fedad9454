"""Know calibration samples, and report doubts about them: later inputs are clipped to the ranges that they show."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from pipeline.errors import first_few

FEW_SAMPLES = 10


def doubts_about(samples: Any) -> tuple[str, ...]:
    """Return why ranges measured on samples (N, …) may not hold for others; empty if there is no reason for doubt."""
    import numpy as np

    count = len(samples)
    doubts = []
    if count < FEW_SAMPLES:
        few = "1 calibration sample is" if count == 1 else f"{count} calibration samples are"
        doubts.append(f"{few} few: ranges that they don't show will be clipped")
    flat = np.reshape(samples, (count, -1))
    if np.all(flat == flat[:, :1]):
        doubts.append("every calibration sample is one constant: the ranges will not be those of real inputs")
    elif count > 1 and np.all(flat == flat[0]):
        doubts.append("all calibration samples are the same: they count as one")
    return tuple(doubts)


def digest_of(arrays: Sequence[Any]) -> bytes:
    """Return the SHA-256 of samples by input, each (N, …): by it a run knows what it has computed on them."""
    digest = hashlib.sha256()
    for samples in arrays:
        digest.update(f"{samples.dtype} {samples.shape} ".encode() + samples.tobytes())
    return digest.digest()


def asleep_in_words(layers: Sequence[str]) -> str:
    """Explain what it means that these layers give only zeros on all calibration samples."""
    names = first_few([repr(name) for name in layers])
    many = f"{len(layers)} layers give" if len(layers) > 1 else "a layer gives"
    advice = "later inputs that wake them are clipped; with other samples not, and a branch that is dead can be removed"
    return f"{many} nothing but zeros on all calibration samples: {names}; {advice}"
