"""Accuracy counted by hand, Wilson's interval against published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.verify.metrics import count_correct, wilson_interval


def test_right_answers_are_counted() -> None:
    outputs = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    assert count_correct(outputs, np.array([1, 0, 1, 1])) == 3
    assert count_correct(outputs, np.array([[1], [0], [0], [0]])) == 3


def test_one_output_tells_two_classes_apart_at_one_half() -> None:
    assert count_correct(np.array([[0.2], [0.51], [0.5], [0.9]]), np.array([0, 1, 1, 1])) == 3


@pytest.mark.parametrize(
    ("correct", "samples", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(correct: int, samples: int, low: float, high: float) -> None:
    assert wilson_interval(correct, samples) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    correct, samples = counts
    low, high = wilson_interval(correct, samples)
    assert 0 <= low <= correct / samples <= high <= 1
    mirrored = wilson_interval(samples - correct, samples)
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))
    assert high - low > wilson_interval(2 * correct, 2 * samples)[1] - wilson_interval(2 * correct, 2 * samples)[0]


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        wilson_interval(0, 0)
