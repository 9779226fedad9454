import numpy as np
import pytest

from stages.prune.choosing.search import WORST, search


def rounded(factors):
    """Give each group its share of 24 channels."""
    return tuple(int(count) for count in np.round(24 * factors / factors.sum()))


def distance(wanted):
    return lambda counts: float(np.square(np.subtract(counts, wanted)).sum())


def found_by(error, groups=4, tries=120, seed=0, heard=lambda _: None):
    return search(rounded, error, groups, tries, seed, heard)


@pytest.mark.parametrize("wanted", [(12, 2, 6, 4), (3, 3, 15, 3), (1, 14, 8, 1)])
def test_what_is_best_is_nearly_found(wanted):
    found = found_by(distance(wanted))
    assert found.error <= 0.1 * found.error_of_equal
    assert found.error == distance(wanted)(rounded(found.factors))


def test_the_second_part_begins_with_the_best_and_changes_ever_less_of_it():
    tried = []

    def error(counts):
        tried.append(counts)
        return distance((12, 2, 6, 4))(counts)

    found_by(error, tries=90)
    assert min(map(distance((12, 2, 6, 4)), tried[30:])) < min(map(distance((12, 2, 6, 4)), tried[:30]))
    spread = [np.std(part, axis=0).mean() for part in (tried[:30], tried[30:60], tried[60:])]
    assert spread[0] > spread[1] > spread[2]


def test_equal_factors_come_first_and_win_if_nothing_is_better():
    found = found_by(distance((6, 6, 6, 6)))
    assert (found.error_of_equal, found.error) == (0, 0)
    np.testing.assert_array_equal(found.factors, np.ones(4))


def test_no_allocation_is_judged_twice_and_the_same_seed_gives_the_same():
    judged, heard = [], []

    def error(counts):
        judged.append(counts)
        return distance((12, 2, 6, 4))(counts)

    first = found_by(error, tries=50, heard=heard.append)
    assert len(judged) == len(set(judged)) == first.tried == 50
    assert heard == [*range(1, 51)]
    np.testing.assert_array_equal(found_by(error, tries=50).factors, first.factors)
    assert not np.array_equal(found_by(error, tries=50, seed=1).factors, first.factors)


def test_few_possible_allocations_end_the_search():
    found = search(lambda factors: (int(factors[0] > factors[1]),), lambda counts: float(counts[0]), 2, 80, 0, print)
    assert (found.tried, found.error) == (2, 0)


def test_errors_that_are_not_finite_are_no_choice():
    found = found_by(lambda counts: np.nan if counts[0] > 3 else float(counts[0]))
    assert (found.error_of_equal, rounded(found.factors)[0]) == (WORST, 0)
