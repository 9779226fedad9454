"""Compare Wilson's interval with published numbers, and the paired test with SciPy's binomial test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.samples.proportions import surely_more, wilson_interval


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


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([1.0, 2.0, 3.0]))
def test_surely_more_is_the_one_sided_binomial_test(gained: int, lost: int, z: float) -> None:
    from scipy.stats import binomtest, norm

    p = binomtest(gained, gained + lost, alternative="greater").pvalue if gained + lost else 1.0
    assert surely_more(gained, lost, z) is bool(p < norm.sf(z))
