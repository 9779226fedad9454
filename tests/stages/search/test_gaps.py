from __future__ import annotations

from collections.abc import Callable
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


@given(st.floats(0.05, 0.5))
def test_all_gaps_end_narrow(least: float) -> None:
    known = filled(lambda budget: None if budget < least else 0.1 / budget)
    trained = sorted(budget for budget, loss in known if loss is not None)
    assert all(upper <= NARROW * lower for lower, upper in pairwise([*trained, BOUNDS.high]))
    assert trained[0] <= NARROW * max(least, BOUNDS.low)


@given(st.lists(st.one_of(st.none(), st.floats(-0.1, 0.5)), min_size=8, max_size=8))
def test_it_ends_whatever_is_lost(losses: list[float | None]) -> None:
    left = iter(losses)
    filled(lambda _: next(left))


def filled(loss: Callable[[float], float | None]) -> list[tuple[float, float | None]]:
    """Return all that is tried; at most eight budgets are, since then every gap is narrow."""
    known: list[tuple[float, float | None]] = []
    while (budget := widest_gap(known, BOUNDS)) is not None:
        assert BOUNDS.low <= budget <= BOUNDS.high
        assert len(known) < 8
        known.append((budget, loss(budget)))
    return known
