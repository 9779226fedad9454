"""Make inputs that no data set holds: a conversion that is right on photographs can still be wrong there.

Zeros reach what divides by a deviation; constant images at both ends of the data's range and images of only its ends
drive activations further than any calibration; noise has no structure that errors could hide in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.records.artifacts import TensorSpec
from stages.formats.format import Arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPEATS = 4  # samples of each random set
SETS = ("zeros", "lowest", "highest", "extremes", "noise")


def adversarial_inputs(specs: Sequence[TensorSpec], real: Arrays) -> dict[str, dict[str, NDArray[Any]]]:
    """Return by set arrays by input name: `zeros`, `lowest` and `highest` of 1 sample, `extremes` and `noise` of 4.

    `real` are preprocessed samples (N, …) by input name; their minimum and maximum are the range of all sets, so that
    integers stay in the range that the model knows. Equal ranges and shapes give the same arrays.
    """
    import numpy as np

    sets: dict[str, dict[str, Any]] = {name: {} for name in SETS}
    rng = np.random.default_rng(0)
    for spec in specs:
        samples = np.asarray(real[spec.name])
        low, high = float(samples.min()), float(samples.max())
        single, several = (1, *samples.shape[1:]), (REPEATS, *samples.shape[1:])
        made = {
            "zeros": np.full(single, min(max(0.0, low), high) if np.dtype(spec.dtype).kind in "iu" else 0.0),
            "lowest": np.full(single, low),
            "highest": np.full(single, high),
            "extremes": np.where(rng.random(several) < 0.5, low, high),
            "noise": rng.uniform(low, high, several),
        }
        for name, array in made.items():
            sets[name][spec.name] = (np.rint(array) if np.dtype(spec.dtype).kind in "iu" else array).astype(spec.dtype)
    return sets
