"""Compare ranges with what 8 bits really do to values, and with numpy's percentiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.schemes import Quantization
from stages.formats.calibration.histograms import Histogram
from stages.formats.calibration.methods import limits

MSE = Quantization(scheme="int8", calibration="mse")


def histogram(values):
    found = Histogram()
    found.add(np.asarray(values, np.float32))
    return found


def percentile(percent):
    return Quantization(scheme="int8", calibration="percentile", percentile=percent)


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
    low, high = limits(histogram(values), MSE)
    assert min(values.min(), 0) <= low <= 0 <= high <= values.max()
    shares = np.linspace(0.02, 1, 50)
    best = min(error_of(values, values.min() * a if not rectified else 0.0, values.max() * a) for a in shares)
    assert error_of(values, low, high) <= best * 1.1


def test_an_outlier_is_cut_where_many_values_gain_by_it_and_kept_where_few_do():
    few, many = (np.linspace(-1, 1, count, dtype=np.float32) for count in (1_000, 1_000_000))
    assert limits(histogram(many), MSE) == pytest.approx((-1.0, 1.0), abs=0.01)
    outlier = np.float32(3.0)
    assert limits(histogram(np.append(many, outlier)), MSE) == pytest.approx((-1.0, 1.0), abs=0.1)
    assert limits(histogram(np.append(few, outlier)), MSE) == pytest.approx((-1.0, 3.0), abs=0.1)


def test_a_tensor_of_zeros_has_an_empty_range():
    assert limits(histogram(np.zeros(10, np.float32)), MSE) == (0.0, 0.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([99.999, 99.9, 99.0, 60.0, 100.0]), st.booleans())
def test_percentiles_are_numpys_to_a_bin(seed, percent, rectified):
    values = np.random.default_rng(seed).laplace(size=5003).astype(np.float32)
    values = np.maximum(values, 0) if rectified else values
    found = histogram(values)
    tail = (100 - percent) / 2
    # A number of values of which no tail is whole: between two values any number would do.
    wanted = np.percentile(values, [tail, 100 - tail], method="inverted_cdf")
    assert limits(found, percentile(percent)) == pytest.approx(tuple(wanted), abs=1.01 * found.width)


def test_nearly_all_zeros_keep_the_range_of_the_rest():
    values = np.zeros(10_000, np.float32)
    values[:20] = 3.0
    assert limits(histogram(values), percentile(99.0)) == (0.0, 3.0)
    assert limits(histogram(np.zeros(9)), percentile(99.0)) == limits(histogram(np.zeros(9)), MSE) == (0.0, 0.0)


def test_the_default_percentile_is_onnx_runtimes():
    values = np.arange(10**6, dtype=np.float32)
    found = limits(histogram(values), Quantization(scheme="int8", calibration="percentile"))
    assert found == pytest.approx((5, 10**6 - 5), abs=1.01 * histogram(values).width)
