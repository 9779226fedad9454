from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.recipe.search_spec import Interval
from stages.search.gaps import NARROW, widest_gap

BOUNDS = Interval(low=0.1, high=0.95)


def test_the_lower_bound_comes_first_and_then_the_widest_gap() -> None:
    assert widest_gap([], BOUNDS) == 0.1
    assert widest_gap([(0.1, 0.2)], BOUNDS) == pytest.approx((0.1 * 0.95) ** 0.5)
    # (0.3 - 0.1) * (0.20 - 0.05) = 0.030 is less than (0.95 - 0.3) * 0.05 = 0.0325; with 0.04 it is more than 0.026.
    assert widest_gap([(0.1, 0.2), (0.3, 0.05)], BOUNDS) == pytest.approx((0.3 * 0.95) ** 0.5)
    assert widest_gap([(0.1, 0.2), (0.3, 0.04)], BOUNDS) == pytest.approx((0.1 * 0.3) ** 0.5)


def test_bad_luck_moves_on_to_larger_budgets() -> None:
    assert widest_gap([(0.1, 0.2), (0.3, 0.25)], BOUNDS) == pytest.approx((0.3 * 0.95) ** 0.5)


def test_where_nothing_could_be_trained_the_least_that_can_is_looked_for() -> None:
    assert widest_gap([(0.1, None), (0.3, 0.02)], BOUNDS) == pytest.approx((0.1 * 0.3) ** 0.5)


def test_where_nothing_is_lost_nothing_is_left_to_do() -> None:
    assert widest_gap([(0.1, -0.01)], BOUNDS) is None


@given(st.lists(st.floats(0, 0.5), min_size=30, max_size=30), st.floats(0.05, 0.4), st.data())
def test_ends_with_narrow_gaps(noise: list[float], lowest: float, data: st.DataObject) -> None:
    known: list[tuple[float, float | None]] = []
    while (budget := widest_gap(known, BOUNDS)) is not None:
        assert BOUNDS.low <= budget <= BOUNDS.high
        known.append((budget, None if budget < lowest else 0.1 / budget + noise[len(known)]))
    trained = sorted(budget for budget, loss in known if loss is not None)
    assert len(known) <= 9
    assert all(upper <= NARROW**2 * lower for lower, upper in pairwise(trained)) or len(set(noise)) > 1
