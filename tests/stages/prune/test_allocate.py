from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.prune.allocate import kept_channels, kept_counts
from stages.prune.config import PruneConfig
from stages.prune.groups import ChannelGraph, ChannelGroup, Slot
from stages.prune.labels import Role


def make_graph(sizes, repeats=None):
    """Groups of these sizes; a producer holds each channel `repeats` times."""
    starts = np.cumsum([0, *sizes])
    groups = []
    for index, (start, stop) in enumerate(pairwise(starts)):
        channels = np.arange(start, stop)
        slot = Slot(f"l{index}", "kernel", 3, Role.PRODUCER, np.tile(channels, (repeats or [1] * len(sizes))[index]))
        groups.append(ChannelGroup(f"l{index}", channels, (f"l{index}",), (slot,), (), (), ()))
    return ChannelGraph(int(starts[-1]), tuple(groups), (), {})


def make_scores(sizes, seed=0):
    return [np.random.default_rng((seed, index)).random(size) + 0.01 for index, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("size", "ratio", "kept"), [(10, 0.5, 5), (10, 0.3, 7), (10, 0.99, 1), (10, 0.0, 10), (1, 0.9, 1)]
)
def test_a_share_of_one_group(size, ratio, kept):
    for scope in ("layer", "global"):
        config = PruneConfig(ratio=ratio, scope=scope)
        assert kept_counts(make_graph([size]).groups, make_scores([size]), config) == [kept]


def test_layer_scope_takes_the_ratio_in_each_group():
    sizes = [8, 16, 64]
    assert kept_counts(make_graph(sizes).groups, make_scores(sizes), PruneConfig(scope="layer", ratio=0.25)) == [
        6,
        12,
        48,
    ]


def test_global_scope_takes_the_least_important_of_all_relative_to_their_group():
    scores = [np.array([1.0, 1.0, 1.0, 1.0]), np.array([100.0, 100.0, 1.0, 1.0]), np.array([0.02, 0.02, 0.02, 0.02])]
    counts = kept_counts(make_graph([4, 4, 4]).groups, scores, PruneConfig(scope="global", ratio=2 / 12))
    assert counts == [4, 2, 4]


def test_the_most_important_channels_stay():
    graph = make_graph([4, 2])
    keep = kept_channels(
        graph, graph.groups, [np.array([0.1, 0.9, 0.5, 0.4]), np.ones(2)], PruneConfig(scope="layer", ratio=0.5)
    )
    assert keep.tolist() == [False, True, True, False, True, False]


def test_rounding_hits_the_total_though_no_group_hits_its_share():
    sizes = [12, 12, 12, 12]  # half is 6: allowed are 4, 8, 12
    counts = kept_counts(
        make_graph(sizes).groups, make_scores(sizes), PruneConfig(scope="layer", ratio=0.5, round_to=4)
    )
    assert sorted(counts) == [4, 4, 8, 8]


def test_groups_smaller_than_the_step_are_cut_without_rounding():
    assert kept_counts(make_graph([4]).groups, make_scores([4]), PruneConfig(ratio=0.5, round_to=8)) == [2]


def test_blocks_of_a_grouped_convolution_count_for_rounding_and_floors():
    groups = make_graph([16], repeats=[4]).groups  # 64 filters, four to a channel
    assert kept_counts(groups, make_scores([16]), PruneConfig(ratio=0.45, round_to=8)) == [8]
    assert kept_counts(groups, make_scores([16]), PruneConfig(ratio=0.9, min_channels=20)) == [5]


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
    counts = kept_counts(make_graph(sizes).groups, make_scores(sizes, seed), config)
    for size, count in zip(sizes, counts, strict=True):
        assert min(size, floor) <= count <= size
        assert size < round_to or count == size or count % round_to == 0
    # No single step of any group would bring the total nearer.
    excess = sum(counts) - sum(sizes) * (1 - ratio)
    lowest = [min(size, max(floor, 1)) if size < round_to else -(-floor // round_to) * round_to for size in sizes]
    if all(low <= size for low, size in zip(lowest, sizes, strict=True)) and sum(lowest) <= sum(sizes) * (1 - ratio):
        assert abs(excess) <= max(round_to, 1)
