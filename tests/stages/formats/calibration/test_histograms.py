"""Hold histograms that are collected in parts against numpy's, made of all values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PreconditionError
from stages.formats.calibration.histograms import HALF, Histogram


def collected(parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.floats(-30, 30))
def test_counts_are_those_of_all_values_in_any_order_and_in_any_parts(seed: int, parts: int, magnitude: float) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_cauchy(2000) * 10.0**magnitude).astype(np.float32)
    values[rng.random(2000) < 0.3] = 0
    found = collected(np.array_split(values, parts))
    shuffled = collected(np.array_split(rng.permutation(values), parts)[::-1])
    summed = collected(np.array_split(values, parts)[:1]) + collected(np.array_split(values, parts)[1:])
    for other in (shuffled, summed):
        assert np.array_equal(found.counts, other.counts)
        assert (found.low, found.high, found.width) == (other.low, other.high, other.width)
    assert np.array_equal(found.counts, np.histogram(values.astype(np.float64), found.edges)[0])
    assert (found.low, found.high) == (values.min(), values.max())
    assert HALF / 2 <= np.abs(values).max() / found.width < HALF


def test_values_that_are_much_larger_leave_the_small_ones_next_to_zero() -> None:
    found = collected([np.array([-1e-20, 1e-20], np.float32), np.zeros(0, np.float32), np.array([1e20], np.float32)])
    assert found.counts[HALF - 1] == found.counts[HALF] == 1
    assert found.counts.sum() == 3


def test_what_fills_up_a_batch_is_not_counted() -> None:
    found = Histogram()
    found.add(np.array([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], np.float32), 2 / 3)
    found.add(np.array(0.5, np.float32), 2 / 3)
    assert (found.low, found.high, int(found.counts.sum())) == (0.5, 4.0, 5)


def test_zeros_are_counted_and_have_no_extent() -> None:
    found = collected([np.zeros(5, np.float32)])
    assert (found.low, found.high, int(found.counts[HALF])) == (0.0, 0.0, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_the_place_to_look(value: float) -> None:
    with pytest.raises(PreconditionError, match="NaN or infinity") as caught:
        Histogram().add(np.array([1.0, value], np.float32))
    assert caught.value.where == "data.calibration"
