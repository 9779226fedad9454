"""Compare the range of least squared error with what 8 bits really do to values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.formats.onnx.ranges import least_square_error

BINS = 2048


def histogram(values):
    """Return the histogram as ONNX Runtime collects it: bins from minus to plus the largest magnitude."""
    limit = np.abs(values).max()
    counts, edges = np.histogram(values, BINS, range=(-limit, limit))
    return counts, edges, values.min(), values.max()


def error_of(values, low, high):
    """Return the mean squared error of values in 8 bits that cover `low` to `high`, zero among the steps."""
    step = (high - low) / 255
    zero = np.round(-low / step)
    steps = np.clip(np.round(values / step) + zero, 0, 255)
    return float(np.mean(((steps - zero) * step - values) ** 2))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "laplace", "standard_cauchy"]),
    st.booleans(),
    st.floats(0.01, 100),
)
def test_it_is_close_to_the_best_of_all_ranges(seed, distribution, rectified, scale):
    values = (getattr(np.random.default_rng(seed), distribution)(size=4000) * scale).astype(np.float32)
    values = np.maximum(values, 0) if rectified else values
    low, high = least_square_error(*histogram(values))
    assert low.dtype == high.dtype == np.float32
    assert min(values.min(), 0) <= low <= 0 <= high <= values.max()
    shares = np.linspace(0.02, 1, 50)
    best = min(error_of(values, values.min() * a if not rectified else 0.0, values.max() * a) for a in shares)
    assert error_of(values, float(low), float(high)) <= best * 1.1


def test_an_outlier_is_cut_where_many_values_gain_by_it_and_kept_where_few_do():
    few, many = (np.linspace(-1, 1, count, dtype=np.float32) for count in (1_000, 1_000_000))
    assert least_square_error(*histogram(many)) == pytest.approx((-1.0, 1.0), abs=0.01)
    outlier = np.float32(3.0)
    assert least_square_error(*histogram(np.append(many, outlier))) == pytest.approx((-1.0, 1.0), abs=0.1)
    assert least_square_error(*histogram(np.append(few, outlier))) == pytest.approx((-1.0, 3.0), abs=0.1)


def test_a_tensor_of_zeros_has_an_empty_range():
    assert least_square_error(*histogram(np.zeros(10, np.float32))) == (0.0, 0.0)
