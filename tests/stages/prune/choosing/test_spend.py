from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PreconditionError
from stages.prune.choosing.allocate import Goal
from stages.prune.choosing.spend import counts_by_loss, places_that_pay
from stages.prune.ranking.predicted_loss import predicted_losses


class Table:
    """Cost by a table for each group, scaled by what other groups keep if they are coupled."""

    def __init__(self, *tables, coupled=False):
        self.tables, self.coupled = [np.asarray(table, float) for table in tables], coupled

    def __call__(self, counts):
        own = [np.interp(count, np.arange(table.size), table) for count, table in zip(counts, self.tables, strict=True)]
        # As in a chain of layers: each costs what its inputs times its outputs are.
        return float(sum(a * b for a, b in pairwise(own)) if self.coupled else sum(own))

    def by_layer(self, counts):
        return {"all": self(counts)}


def linear(size, each=1.0):
    return np.arange(size + 1) * each


def goal(cost, share, sizes, measure="macs"):
    whole = cost(sizes)
    return Goal(measure, share * whole, whole, cost)


def loss_of(scores, counts):
    return sum(predicted_losses(score)[count] for score, count in zip(scores, counts, strict=True))


def brute_force(asked, scores, allowed, limit):
    return min((loss_of(scores, counts) for counts in product(*allowed) if asked.cost(counts) <= limit), default=np.inf)


SCORES = st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=5), min_size=1, max_size=3)


@given(scores=SCORES, share=st.floats(0.05, 1))
def test_of_channels_that_cost_the_same_the_least_loss_is_found(scores, share):
    scores = [np.array(score) for score in scores]
    sizes = [score.size for score in scores]
    asked, allowed = goal(Table(*map(linear, sizes)), share, sizes), [np.arange(size + 1) for size in sizes]
    counts = counts_by_loss(asked, scores, allowed)
    limit = asked.limit * (1 + 1e-9)
    assert asked.cost(counts) <= limit
    assert loss_of(scores, counts) == pytest.approx(brute_force(asked, scores, allowed, limit))


@given(scores=SCORES, share=st.floats(0.1, 1), seed=st.integers(0, 99), coupled=st.booleans())
def test_goals_are_met_and_no_step_back_fits(scores, share, seed, coupled):
    scores, rng = [np.array(score) for score in scores], np.random.default_rng(seed)
    sizes = [score.size for score in scores]
    cost = Table(*(linear(size, rng.uniform(0.5, 2)) for size in sizes), coupled=coupled and len(sizes) > 1)
    allowed = [np.unique([1, *rng.integers(1, size + 1, 2), size]) for size in sizes]
    asked = goal(cost, share, sizes)
    try:
        counts = counts_by_loss(asked, scores, allowed)
    except PreconditionError:
        assert cost([1] * len(sizes)) > asked.limit
        return
    assert all(count in own for count, own in zip(counts, allowed, strict=True))
    if cost([1] * len(sizes)) > asked.limit:
        assert counts == [1] * len(sizes)
        return
    assert cost(counts) <= asked.limit * (1 + 1e-9)
    for group, own in enumerate(allowed):
        for more in own[own > counts[group]][:1]:
            assert cost([*counts[:group], int(more), *counts[group + 1 :]]) > asked.limit


@given(scores=SCORES, share=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_greedy_is_worse_than_the_best_by_less_than_one_step(scores, share, seed):
    scores, rng = [np.array(score) for score in scores], np.random.default_rng(seed)
    sizes = [score.size for score in scores]
    asked = goal(Table(*(linear(size, rng.uniform(0.5, 2)) for size in sizes)), share, sizes)
    allowed = [np.arange(size + 1) for size in sizes]
    counts = counts_by_loss(asked, scores, allowed)
    best = brute_force(asked, scores, allowed, asked.limit * (1 + 1e-9))
    assert loss_of(scores, counts) <= best + max(score.max() for score in scores) + 1e-9


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9])
def test_a_share_that_floats_miss_takes_no_channel_more(ratio):
    whole = Table(linear(10))
    asked = Goal("channels", (1 - ratio) * 10.0, 10.0, whole)
    assert counts_by_loss(asked, [np.arange(10.0)], [np.arange(1, 11)]) == [round(10 * (1 - ratio))]


@pytest.mark.parametrize(("share", "left"), [(0.6, 5), (0.55, 4), (0.5, 4), (0.99, 8)])
def test_of_the_channels_the_nearest_share_stays_and_a_budget_is_never_exceeded(share, left):
    whole = Table(linear(8))
    scores, allowed = [np.arange(8.0)], [np.arange(1, 9)]
    assert counts_by_loss(Goal("channels", share * 8, 8.0, whole), scores, allowed) == [left]
    assert counts_by_loss(Goal("macs", share * 8, 8.0, whole), scores, allowed) == [int(share * 8)]


def test_the_step_beyond_a_share_of_the_channels_goes_to_what_regains_most():
    scores = [np.array([1.0, 1.0, 8.0, 9.0]), np.array([1.0, 3.0, 8.0, 9.0])]
    asked = Goal("channels", 4.6, 8.0, Table(linear(4), linear(4)))
    assert counts_by_loss(asked, scores, [np.array([1, 2, 4])] * 2) == [2, 2]  # both next steps are of two channels
    assert counts_by_loss(asked, scores, [np.arange(1, 5)] * 2) == [2, 3]


def stairs(size, tile):
    return np.ceil(np.arange(size + 1) / tile) * tile


def test_costs_that_fall_in_stairs_are_walked_from_one_to_the_next():
    sizes, rng = [64, 64], np.random.default_rng(0)
    scores = [rng.random(64), 10 * rng.random(64)]
    asked = goal(Table(stairs(64, 16), stairs(64, 16)), 0.5, sizes)
    counts = counts_by_loss(asked, scores, [np.arange(1, 65)] * 2)
    assert asked.cost(counts) == asked.limit
    assert all(count % 16 == 0 for count in counts)  # all that a tile costs anyway is kept
    assert loss_of(scores, counts) == pytest.approx(
        min(loss_of(scores, pair) for pair in product((16, 32, 48, 64), repeat=2) if sum(pair) <= 64)
    )


def test_a_saving_far_below_is_found_behind_small_ones():
    """The first channel saves next to nothing, the tenth nearly everything: another group's first is not cheaper."""
    cliff = np.append(np.full(6, 1.0), 100.0 + np.arange(5) * 0.01)
    scores = [np.full(10, 1.0), np.full(10, 3.0)]
    asked = goal(Table(cliff, linear(10, 10.0)), 0.55, [10, 10])
    assert counts_by_loss(asked, scores, [np.arange(1, 11)] * 2) == [5, 10]


def test_a_cost_that_rises_with_fewer_channels_stalls_nothing():
    noisy = np.array([0.0, 5.0, 6.0, 5.5, 9.0, 8.5, 10.0])
    asked = goal(Table(noisy, linear(6)), 0.5, [6, 6])
    counts = counts_by_loss(asked, [np.full(6, 1.0), np.full(6, 1.5)], [np.arange(1, 7)] * 2)
    assert asked.cost(counts) <= asked.limit


def test_what_costs_nothing_stays_though_something_else_goes():
    asked = goal(Table(np.full(5, 2.0), linear(4)), 0.7, [4, 4])
    assert counts_by_loss(asked, [np.zeros(4), np.ones(4)], [np.arange(1, 5)] * 2)[0] == 4


def test_places_that_pay_are_the_corners_of_the_hull():
    costs, losses = np.array([1.0, 2.0, 4.0, 5.0, 6.0]), np.array([10.0, 6.0, 5.0, 0.5, 0.0])
    assert places_that_pay(costs, losses) == [4, 3, 1, 0]
    assert places_that_pay(np.ones(3), np.array([2.0, 1.0, 0.0])) == [2]
    assert places_that_pay(np.array([1.0, 2.0, 3.0]), np.zeros(3)) == [2, 1, 0]


def test_a_goal_out_of_reach_is_told_and_one_nearly_in_reach_taken():
    asked = goal(Table(linear(10)), 0.1, [10])
    with pytest.raises(PreconditionError, match="can't come down"):
        counts_by_loss(asked, [np.ones(10)], [np.arange(5, 11)])
    nearly = Goal("macs", 4.95, 10.0, Table(linear(10)))
    assert counts_by_loss(nearly, [np.ones(10)], [np.arange(5, 11)]) == [5]
    nothing = goal(Table(linear(10)), 1.0, [10])
    assert counts_by_loss(nothing, [np.ones(10)], [np.arange(5, 11)]) == [10]


def test_room_that_a_big_step_leaves_goes_to_what_regains_most():
    """One group's only step saves 8 of the 5 asked for: the other's channels, given up before it, fit again."""
    scores = [np.array([8.0, 8.0]), np.array([0.1, 0.2, 0.3])]
    asked = Goal("macs", 6.0, 11.0, Table([0.0, 0.0, 8.0], linear(3)))
    assert counts_by_loss(asked, scores, [np.array([1, 2]), np.arange(1, 4)]) == [1, 3]
