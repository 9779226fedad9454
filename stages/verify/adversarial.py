"""Inputs that no data set holds: where a conversion that is right on photographs can still be wrong.

Zeros reach what divides by a deviation; constant images at both ends of the data's range and images of nothing but
its ends drive activations further than any calibration saw; noise has no structure that errors could hide in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.records.artifacts import TensorSpec

REPEATS = 4  # samples of each set that is drawn
SETS = ("zeros", "lowest", "highest", "extremes", "noise")


def adversarial_inputs(specs: Sequence[TensorSpec], real: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By set, arrays by input name: `zeros`, `lowest` and `highest` of 1 sample, `extremes` and `noise` of 4.

    `real` are preprocessed samples (N, …) by input name; their least and greatest values are the range that all sets
    keep to, so that whole numbers stay ones that the model knows. The same arrays for equal ranges and shapes.
    """
    import numpy as np

    sets: dict[str, dict[str, Any]] = {name: {} for name in SETS}
    rng = np.random.default_rng(0)
    for spec in specs:
        samples = np.asarray(real[spec.name])
        low, high = float(samples.min()), float(samples.max())
        one, several = (1, *samples.shape[1:]), (REPEATS, *samples.shape[1:])
        made = {
            "zeros": np.full(one, min(max(0.0, low), high) if np.dtype(spec.dtype).kind in "iu" else 0.0),
            "lowest": np.full(one, low),
            "highest": np.full(one, high),
            "extremes": np.where(rng.random(several) < 0.5, low, high),
            "noise": rng.uniform(low, high, several),
        }
        for name, array in made.items():
            sets[name][spec.name] = (np.rint(array) if np.dtype(spec.dtype).kind in "iu" else array).astype(spec.dtype)
    return sets
