"""Check that synthetic inputs stay in the range of real ones, and integers stay integers."""

from __future__ import annotations

import numpy as np

from pipeline.records.artifacts import TensorSpec
from stages.verify.adversarial import SETS, adversarial_inputs

SPECS = (
    TensorSpec(name="image", shape=(None, None, 4), dtype="float32"),
    TensorSpec(name="word", shape=(None, 3), dtype="int32"),
)
REAL = {
    "image": np.linspace(-1, 2, 40, dtype=np.float32).reshape(2, 5, 4),
    "word": np.array([[3, 5, 7], [4, 4, 4]], np.int32),
}


def test_sets_of_all_inputs_within_the_range() -> None:
    sets = adversarial_inputs(SPECS, REAL)
    assert tuple(sets) == SETS
    for name, arrays in sets.items():
        assert {array.shape[0] for array in arrays.values()} == {4 if name in ("extremes", "noise") else 1}
        assert arrays["image"].shape[1:] == (5, 4)
        assert arrays["word"].dtype == np.int32
        assert all(REAL[key].min() <= array.min() <= array.max() <= REAL[key].max() for key, array in arrays.items())
    assert not sets["zeros"]["image"].any()
    assert (sets["zeros"]["word"] == 3).all()  # the minimum of the data: 0 may not be a word
    assert set(np.unique(sets["extremes"]["image"])) == {np.float32(-1), np.float32(2)}
    assert len(np.unique(sets["noise"]["image"])) > 40


def test_the_same_each_time() -> None:
    first, second = adversarial_inputs(SPECS, REAL), adversarial_inputs(SPECS, REAL)
    assert all(np.array_equal(first[name]["image"], second[name]["image"]) for name in SETS)
