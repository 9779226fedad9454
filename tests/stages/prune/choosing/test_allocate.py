from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PreconditionError
from stages.keras.channels.groups import ChannelGraph, ChannelGroup, Slot
from stages.keras.channels.labels import Role
from stages.prune.choosing.allocate import Goal, counts_for, kept_channels, orders_of
from stages.prune.choosing.allowed_counts import allowed_counts
from stages.prune.choosing.cost import Cost, cost_of
from stages.prune.config import PruneConfig
from stages.prune.ranking.families import one_ranking, uniform


def make_graph(sizes, repeats=None):
    """Make groups of these sizes; a producer holds each channel `repeats` times."""
    starts = np.cumsum([0, *sizes])
    groups = []
    for index, (start, stop) in enumerate(pairwise(starts)):
        channels = np.arange(start, stop)
        slot = Slot(f"l{index}", "kernel", 3, Role.PRODUCER, np.tile(channels, (repeats or [1] * len(sizes))[index]))
        groups.append(ChannelGroup(f"l{index}", channels, (f"l{index}",), (slot,), (), (), ()))
    return ChannelGraph(int(starts[-1]), tuple(groups), (), {})


def make_scores(sizes, seed=0):
    return [np.random.default_rng((seed, index)).random(size) + 0.01 for index, size in enumerate(sizes)]


def kept_counts(graph, scores, config):
    """Return the counts for a share of the channels."""
    groups = graph.prunable
    allowed = [allowed_counts(group, config) for group in groups]
    sizes = [group.channels.size for group in groups]
    whole = float(sum(sizes))
    goal = Goal(
        "channels", whole * (1 - config.share), whole, cost_of(None, graph, groups, orders_of(scores), "channels")
    )
    if config.scope == "layer":
        return counts_for(goal, uniform(sizes, sizes), allowed)
    return counts_for(goal, one_ranking([s / s.mean() for s in scores], [int(c[0]) for c in allowed]), allowed)


@pytest.mark.parametrize(
    ("size", "ratio", "kept"), [(10, 0.5, 5), (10, 0.3, 7), (10, 0.99, 1), (10, 0.0, 10), (1, 0.9, 1)]
)
def test_a_share_of_one_group(size, ratio, kept):
    for scope in ("layer", "global"):
        config = PruneConfig(ratio=ratio, scope=scope)
        assert kept_counts(make_graph([size]), make_scores([size]), config) == [kept]


def test_layer_scope_takes_the_ratio_in_each_group():
    sizes = [8, 16, 64]
    assert kept_counts(make_graph(sizes), make_scores(sizes), PruneConfig(scope="layer", ratio=0.25)) == [6, 12, 48]


def test_global_scope_takes_the_least_important_of_all_relative_to_their_group():
    scores = [np.array([1.0, 1.0, 1.0, 1.0]), np.array([100.0, 100.0, 1.0, 1.0]), np.array([0.02, 0.02, 0.02, 0.02])]
    assert kept_counts(make_graph([4, 4, 4]), scores, PruneConfig(scope="global", ratio=2 / 12)) == [4, 2, 4]


def test_the_most_important_channels_stay():
    graph = make_graph([4, 2])
    keep = kept_channels(graph, graph.groups, orders_of([np.array([0.1, 0.9, 0.5, 0.4]), np.ones(2)]), [2, 1])
    assert keep.tolist() == [False, True, True, False, True, False]


def test_rounding_hits_the_total_though_no_group_hits_its_share():
    sizes = [12, 12, 12, 12]  # half is 6: allowed are 4, 8, 12
    counts = kept_counts(make_graph(sizes), make_scores(sizes), PruneConfig(scope="layer", ratio=0.5, round_to=4))
    assert sorted(counts) == [4, 4, 8, 8]


def test_groups_smaller_than_the_step_are_cut_without_rounding():
    assert kept_counts(make_graph([4]), make_scores([4]), PruneConfig(ratio=0.5, round_to=8)) == [2]


def test_blocks_of_a_grouped_convolution_count_for_rounding_and_floors():
    graph = make_graph([16], repeats=[4])  # 64 filters, four to a channel
    assert kept_counts(graph, make_scores([16]), PruneConfig(ratio=0.45, round_to=8)) == [8]
    assert kept_counts(graph, make_scores([16]), PruneConfig(ratio=0.9, min_channels=20)) == [5]


@given(
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=8),
    ratio=st.floats(0, 0.99),
    scope=st.sampled_from(["layer", "global"]),
    round_to=st.sampled_from([1, 2, 8, 16]),
    floor=st.integers(1, 6),
    seed=st.integers(0, 9),
)
def test_counts_are_allowed_and_near_the_ratio(sizes, ratio, scope, round_to, floor, seed):
    config = PruneConfig(ratio=ratio, scope=scope, round_to=round_to, min_channels=floor)
    counts = kept_counts(make_graph(sizes), make_scores(sizes, seed), config)
    for size, count in zip(sizes, counts, strict=True):
        assert min(size, floor) <= count <= size
        assert size < round_to or count == size or count % round_to == 0
    # No single step of any group would bring the total nearer.
    excess = sum(counts) - sum(sizes) * (1 - ratio)
    lowest = [min(size, max(floor, 1)) if size < round_to else -(-floor // round_to) * round_to for size in sizes]
    if all(low <= size for low, size in zip(lowest, sizes, strict=True)) and sum(lowest) <= sum(sizes) * (1 - ratio):
        assert abs(excess) <= max(round_to, 1)


def chain_cost(sizes):
    """Return the parameters of a chain of dense layers with hidden layers of these sizes, 10 inputs and 10 outputs."""
    layers = len(sizes) + 1
    lengths = np.concatenate([np.arange(size + 1) for size in sizes]).astype(float)
    starts = np.cumsum([0, *(size + 1 for size in sizes)])[:-1]
    axes = np.array([[group, group + 1] for group in range(layers)])  # axis 0 is 10 long, as is the last
    return Cost(
        scale=np.ones(layers),
        axes=axes,
        axis_of=np.arange(1, layers),
        group_of=np.arange(layers - 1),
        start=starts,
        kept=lengths,
        fixed=np.array([10.0, *([0.0] * (layers - 1)), 10.0]),
        layers=tuple(f"dense{index}" for index in range(layers)),
    )


@given(
    sizes=st.lists(st.integers(20, 90), min_size=1, max_size=6),
    left=st.floats(0.1, 1.0),
    scope=st.sampled_from(["layer", "global"]),
    seed=st.integers(0, 9),
)
def test_a_target_on_parameters_is_met_within_two_percent(sizes, left, scope, seed):
    graph, cost = make_graph(sizes), chain_cost(sizes)
    config = PruneConfig(params=left, scope=scope, min_channels=2)
    allowed = [allowed_counts(group, config) for group in graph.groups]
    whole = cost(sizes)
    curve = uniform(sizes, sizes) if scope == "layer" else one_ranking(make_scores(sizes, seed), [2] * len(sizes))
    counts = counts_for(Goal("params", left * whole, whole, cost), curve, allowed)
    smallest_step = min(cost.slopes(np.array(counts, float))[1:-1])
    assert abs(cost(counts) - left * whole) <= max(0.02 * left * whole, smallest_step)


def test_a_target_out_of_reach_says_how_far_it_goes_and_what_limits_it():
    graph, cost = make_graph([20, 40]), chain_cost([20, 40])
    allowed = [allowed_counts(group, PruneConfig(min_channels=10)) for group in graph.groups]
    whole = cost([20, 40])
    with pytest.raises(
        PreconditionError, match=r"params can't come down to 0.100 of the source.*0.214 is left"
    ) as caught:
        counts_for(Goal("params", 0.1 * whole, whole, cost), uniform([20, 40], [20, 40]), allowed)
    assert caught.value.where == "prune.params"
    assert "dense0 (7.1%)" in caught.value.hint
