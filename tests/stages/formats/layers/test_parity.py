"""Compare figures of parity with numbers worked out by hand, and check their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stages.formats.layers.parity import (
    cosine,
    decided_agreement,
    max_abs_diff,
    mean_abs_diff,
    sqnr_db,
    top_agreement,
    variation_db,
    worst_sample,
)

A = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], np.float32)
B = np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 3.0]], np.float32)

OUTPUTS = arrays.arrays(np.float32, (5, 3), elements=st.floats(-100, 100, width=32, allow_subnormal=False))


def test_worked_out_by_hand() -> None:
    assert max_abs_diff(A, B) == 3.0
    assert mean_abs_diff(A, B) == pytest.approx((0.5 + 2 + 3) / 6)
    assert cosine(A, B) == pytest.approx((1 / np.sqrt(1.25) + 0) / 2)
    assert top_agreement(A, B) == 0.5
    assert worst_sample(A, B) == 1
    assert worst_sample(B[::-1], A[::-1]) == 0


def test_zeros_have_no_direction_but_equal_each_other() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert cosine(zeros, zeros) == 1.0
    assert cosine(zeros, A) == 0.0
    assert cosine(np.array([[1e-30, 0.0]]), np.array([[1e-30, 0.0]])) == pytest.approx(1.0)


@given(OUTPUTS)
def test_equal_outputs_are_in_full_parity(outputs: np.ndarray) -> None:
    assert max_abs_diff(outputs, outputs) == mean_abs_diff(outputs, outputs) == 0
    assert cosine(outputs, outputs) == pytest.approx(1)
    assert top_agreement(outputs, outputs) == 1


@given(OUTPUTS, OUTPUTS)
def test_bounds_and_symmetry(a: np.ndarray, b: np.ndarray) -> None:
    assert 0 <= mean_abs_diff(a, b) <= max_abs_diff(a, b)
    assert -1 <= cosine(a, b) <= 1
    assert cosine(a, b) == pytest.approx(cosine(b, a))
    assert max_abs_diff(a, b) == max_abs_diff(b, a)
    assert max_abs_diff(a, b) == pytest.approx(np.abs(a[worst_sample(a, b)] - b[worst_sample(a, b)]).max(), abs=1e-4)


@given(OUTPUTS, st.floats(0.5, 8))
def test_the_cosine_knows_no_scale(outputs: np.ndarray, factor: float) -> None:
    assert cosine(outputs, outputs * factor) == pytest.approx(1, abs=1e-5)


@given(OUTPUTS, OUTPUTS)
def test_sqnr_is_that_of_the_sums_taken_one_by_one(a: np.ndarray, b: np.ndarray) -> None:
    signal = sum(float(x) ** 2 for x in a.ravel())
    noise = sum((float(y) - float(x)) ** 2 for x, y in zip(a.ravel(), b.ravel(), strict=True))
    expected = 200.0 if noise == 0 else -200.0 if signal == 0 else 10 * np.log10(signal / noise)
    assert sqnr_db(a, b) == pytest.approx(np.clip(expected, -200, 200), abs=1e-6)


@given(OUTPUTS, OUTPUTS, st.integers(1, 3))
def test_top_agreement_is_the_overlap_of_sorted_lists(a: np.ndarray, b: np.ndarray, k: int) -> None:
    def best(row: np.ndarray) -> set[int]:
        return set(sorted(range(len(row)), key=lambda place: (-row[place], place))[:k])

    shares = [len(best(x) & best(y)) / k for x, y in zip(a, b, strict=True)]
    assert top_agreement(a, b, k) == pytest.approx(np.mean(shares))


@given(OUTPUTS, OUTPUTS)
def test_the_cosine_follows_from_the_law_of_cosines(a: np.ndarray, b: np.ndarray) -> None:
    a, b = np.abs(a.astype(np.float64)) + 1, b.astype(np.float64) + 200  # no zeros
    sides = [(np.hypot.reduce(x), np.hypot.reduce(y), np.hypot.reduce(x - y)) for x, y in zip(a, b, strict=True)]
    assert cosine(a, b) == pytest.approx(np.mean([(p * p + q * q - r * r) / (2 * p * q) for p, q, r in sides]))


def test_what_is_the_same_for_every_sample_is_no_signal() -> None:
    varied = np.array([[1.0], [-1.0]])
    assert variation_db(varied + 1000, varied + 1000.1) == pytest.approx(20.0)
    assert sqnr_db(varied + 1000, varied + 1000.1) == pytest.approx(80.0, abs=0.01)
    assert variation_db(np.ones((3, 2)), np.zeros((3, 2))) is None


def test_classes_that_are_near_each_other_are_rounding_s_to_choose() -> None:
    reference = np.array([[1.0, 0.95, 0.0], [0.0, 1.0, 0.2], [0.8, 0.1, 0.1], [0.5, 0.3, 0.3]])
    actual = reference[:, ::-1]
    assert decided_agreement(reference, reference) == (3, 3)
    assert decided_agreement(reference, actual) == (3, 1)


def test_one_number_has_no_direction_but_its_sign() -> None:
    reference = np.array([[1.0], [0.001], [-2.0], [-0.001]])
    assert cosine(reference, reference + 0.002) > 0.999
    assert cosine(reference, -reference) == pytest.approx(-1)
    assert cosine(np.zeros((3, 1)), np.zeros((3, 1))) == 1
