from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.search.front import front, hypervolume, rank_correlation

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


def beats(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


@given(POINTS)
def test_the_front_has_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    kept = front(points, lambda point: point)
    assert set(kept) == {point for point in points if not any(beats(other, point) for other in points)}
    assert kept == sorted(set(kept))


@given(POINTS)
def test_the_area_counts_the_cells_that_a_point_beats(points: list[tuple[int, int]]) -> None:
    cells = {(x, y) for x in range(8) for y in range(7) if any(a <= x and b <= y for a, b in points)}
    assert hypervolume(points, (8, 7)) == len(cells)


def test_ranks_agree_or_disagree() -> None:
    assert rank_correlation([(1, 10), (2, 30), (3, 40), (4, 90)]) == pytest.approx(1)
    assert rank_correlation([(1, 9), (2, 5), (3, 1)]) == pytest.approx(-1)
    assert rank_correlation([(1, 9), (2, 5)]) is None
    assert rank_correlation([(1, 9), (1, 5), (1, 3)]) is None
