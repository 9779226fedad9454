"""Hold the estimate of chance against drawn samples, and check where it is not known."""

import numpy as np
import pytest

from stages.search.chance import chance_of


def test_it_is_the_spread_of_a_paired_drop():
    """Of 5,000 samples, 8.75 % differ between two networks with as many errors: what a drop spreads by if redrawn."""
    rng, errors, samples = np.random.default_rng(0), 0.175, 5000
    differing = errors / 2
    kinds = rng.choice([1, -1, 0], (2000, samples), p=[differing / 2, differing / 2, 1 - differing])
    assert chance_of(1 - errors, samples, 0.01) == pytest.approx(kinds.mean(axis=1).std(), rel=0.05)


def test_a_network_that_loses_the_goal_differs_on_as_many_samples():
    assert chance_of(1.0, 500, 0.01) == pytest.approx((0.01 / 500) ** 0.5)


@pytest.mark.parametrize("unknown", [(None, 500, 0.01), (0.9, None, 0.01), (0.9, 0, 0.01), (0.9, 500, None)])
def test_it_is_nothing_where_it_is_not_known(unknown):
    assert chance_of(*unknown) == 0.0
