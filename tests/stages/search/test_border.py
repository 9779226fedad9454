from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.recipe.search_spec import Interval
from stages.search.border import NARROW, nearest_of, next_budget, safer_budget

BOUNDS = Interval(low=0.1, high=0.95)


def bisected(border: float, start: float) -> list[tuple[float, bool]]:
    """Return all that is tried if the goal is met from `border` on."""
    known: list[tuple[float, bool]] = []
    while (budget := next_budget(known, BOUNDS, start)) is not None:
        assert BOUNDS.low <= budget <= BOUNDS.high
        assert len(known) < 12
        known.append((budget, budget >= border))
    return known


@given(st.floats(0.11, 0.94), st.floats(0.05, 1.0))
def test_finds_the_border_wherever_it_is(border: float, start: float) -> None:
    known = bisected(border, start)
    best = min(budget for budget, met in known if met)
    assert border <= best <= NARROW * border * 1.06


@given(st.floats(0.05, 1.0))
def test_ends_where_all_or_nothing_meets_the_goal(start: float) -> None:
    assert min(budget for budget, _ in bisected(0.0, start)) <= 1.06 * BOUNDS.low
    never = bisected(2.0, start)
    assert not any(met for _, met in never)
    assert max(budget for budget, _ in never) >= BOUNDS.high / 1.06


def test_bad_luck_above_the_border_is_passed_over() -> None:
    assert next_budget([(0.6, False), (0.5, True), (0.3, False)], BOUNDS, 0.5) == (0.5 * 0.3) ** 0.5


def test_what_the_network_can_not_come_down_to_is_no_miss_but_a_bound():
    assert next_budget([], BOUNDS, 0.5, [0.2]) == 0.5
    assert next_budget([(0.3, True)], BOUNDS, 0.5, [0.25]) == pytest.approx(0.2625)
    assert next_budget([(0.26, True)], BOUNDS, 0.5, [0.25]) is None
    assert next_budget([], BOUNDS, 0.5, [0.2, 0.5]) == 0.75
    assert next_budget([], BOUNDS, 0.5, [0.94]) is None  # nothing can be done with this network


def test_what_is_offered_nearby_is_taken_if_nothing_known_is_between():
    offered = (0.2, 0.3, 0.4, 0.5)
    assert nearest_of(offered, 0.36, []) == 0.4
    assert nearest_of(offered, 0.36, [0.38]) == 0.3
    assert nearest_of(offered, 0.35, [0.3, 0.4]) == 0.35  # both are known
    assert nearest_of(offered, 0.5, [0.4]) == 0.5
    assert nearest_of(offered, 0.7, []) == 0.7  # none is near
    assert nearest_of((), 0.36, []) == 0.36


def test_above_the_border_one_safer_budget_is_tried():
    bounds = Interval(low=0.2, high=0.95)
    assert safer_budget([(0.7, True), (0.5, False)], bounds) == pytest.approx(0.84)
    assert safer_budget([(0.9, True), (0.8, False)], bounds) == 0.95
    assert safer_budget([(0.94, True), (0.8, False)], bounds) is None  # nothing to gain
    assert safer_budget([(0.7, True), (0.84, True)], bounds) is None
    assert safer_budget([(0.7, True), (0.74, True)], bounds) == pytest.approx(0.84)
    assert safer_budget([(0.7, False)], bounds) is None
