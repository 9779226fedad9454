"""Test which method is taken, and that the samples it is judged on do not depend on their order."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.calibration.choice import METHODS, RangeChoice, choose, held_out, relative_error

HOW = Quantization(scheme="int8", calibration="auto")


def test_the_same_samples_are_held_out_in_any_order() -> None:
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(18, 3)).astype(np.float32), "b": rng.normal(size=(18, 2)).astype(np.float32)}
    order = rng.permutation(18)
    measured, judges = held_out(arrays)
    assert sorted(measured + judges) == list(range(18))
    assert len(judges) == 4
    moved = held_out({name: values[order] for name, values in arrays.items()})
    for places, others in zip((measured, judges), moved, strict=True):
        assert np.array_equal(arrays["a"][places], arrays["a"][order][others])


def test_fewer_than_four_samples_hold_none_out_and_that_is_said() -> None:
    assert held_out({"x": np.zeros((3, 2), np.float32)})[1] == []
    choice = choose(HOW, lambda _: pytest.fail("nothing to judge by"), [])
    assert choice == RangeChoice(method="min_max", errors={}, samples=0)
    assert "fewer than 4 samples" in choice.said


def test_the_method_nearest_at_the_outputs_is_taken_and_the_first_of_equals() -> None:
    wanted = [np.array([[3.0, 4.0]]), np.array([[1.0], [1.0]])]
    off = {"min_max": 1.0, "percentile": 0.5, "mse": 0.5}
    tried = []

    def outputs(how: Quantization) -> list[np.ndarray]:
        tried.append(how.calibration)
        return [wanted[0] + off[str(how.calibration)], wanted[1]]

    choice = choose(HOW, outputs, wanted)
    assert tuple(tried) == METHODS
    assert choice.method == "percentile"
    assert choice.errors == pytest.approx({"min_max": 0.04, "percentile": 0.01, "mse": 0.01})  # 2 of 25, and 0, halved
    assert "took percentile" in choice.said
    assert "min_max 4.00e-02" in choice.said


def test_outputs_of_zeros_have_errors_too() -> None:
    assert relative_error([np.zeros((2, 2))], [np.ones((2, 2))]) == 4.0
