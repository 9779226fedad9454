"""Test which numbers are steps, which probes represent a network's layers, and costs combined from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.formats.probe import Probe
from stages.keras.channels.groups import channel_groups
from stages.prune.measured.probing import MOST_COUNTS, ProfiledCost, candidates, operators_of, profiles, steps_of


def tiles(counts, tile):
    return np.ceil(counts / tile) * 100.0


@pytest.mark.parametrize("tile", [1, 4, 8, 16])
def test_a_staircase_has_its_edges_as_steps(tile):
    counts = np.arange(1, 33)
    steps = steps_of(counts, tiles(counts, tile), 0.0)
    assert steps.tolist() == list(range(tile, 33, tile))


def test_a_remainder_that_costs_nearly_a_tile_is_no_step():
    counts = np.arange(1, 33)  # 24 of them 585, 25 of them 655, 31 of them 681, 32 of them 654: measured on an A76
    costs = tiles(counts, 8) + np.where(counts % 8, 20.0 + counts % 8, 0.0)
    assert steps_of(counts, costs, 0.0).tolist() == [8, 16, 24, 32]


def test_what_pays_for_a_whole_tile_is_no_step_though_more_channels_cost_too():
    """One layer in tiles of 16, another channel by channel, like int8 outputs and inputs on a Cortex-A53."""
    counts = np.arange(1, 65)
    steps = steps_of(counts, tiles(counts, 16) + 6.0 * counts, 0.0).tolist()
    assert {16, 32, 48, 64} <= set(steps)
    assert not {17, 18, 24, 33, 40, 49} & set(steps)


def test_noise_makes_no_steps():
    counts = np.arange(1, 33)
    costs = tiles(counts, 8) * np.random.default_rng(0).uniform(0.995, 1.005, counts.size)
    steps = steps_of(counts, costs, 0.01)
    assert {8, 16, 24, 32} <= set(steps.tolist())
    assert set(steps.tolist()) <= {7, 8, 15, 16, 23, 24, 31, 32}


@given(size=st.integers(1, 3000))
def test_few_counts_stand_for_many_and_the_whole_is_among_them(size):
    counts = candidates(size)
    assert counts.size <= MOST_COUNTS + 1
    assert counts[-1] == size
    assert (np.diff(counts) > 0).all()
    assert counts[0] == 1 or counts.size > MOST_COUNTS / 2


def test_probes_have_the_layers_own_shapes(mini_xception):
    found = {(one.layer, one.whole.kind): one for one in operators_of(mini_xception, channel_groups(mini_xception))}
    whole = {key: one.whole for key, one in found.items()}
    assert whole["block1_conv2", "conv"] == Probe(
        kind="conv", inputs=16, outputs=32, height=28, width=28, kernel=(3, 3), strides=(2, 2)
    )
    assert whole["block2_sepconv1", "depthwise"].kernel == (3, 3)
    assert whole["block2_sepconv1", "conv"] == Probe(kind="conv", inputs=32, outputs=64, height=14, width=14)
    assert whole["head", "dense"] == Probe(kind="dense", inputs=160, outputs=10)
    assert sum(one.whole.macs for one in found.values()) == pytest.approx(4_818_000, rel=0.01)


def by_macs(probes):
    """Simulate a device whose costs are MACs: the sum over layers must then be the network's."""
    return {probe: float(probe.macs) for probe in probes}, 0.0


def test_costs_from_layers_alone_are_those_of_the_network(mini_xception):
    graph = channel_groups(mini_xception)
    found = profiles(mini_xception, graph, by_macs)
    whole = sum(one.whole.macs for one in operators_of(mini_xception, graph))
    cost = ProfiledCost(tuple(found), float(whole))
    sizes = [group.channels.size for group in graph.prunable]
    assert cost(sizes) == pytest.approx(whole)
    # Half of every group: layers between two groups a quarter, those with one a half.
    half = cost([size / 2 for size in sizes])
    by_layer = cost.by_layer([size / 2 for size in sizes])
    assert by_layer["block1_conv1"] == pytest.approx(28 * 28 * 9 * 8, rel=1e-6)
    assert by_layer["block1_conv2"] == pytest.approx(14 * 14 * 9 * 8 * 16, rel=1e-6)
    assert by_layer["head"] == pytest.approx(80 * 10, rel=1e-6)
    assert half == pytest.approx(sum(by_layer.values()))


def test_large_layers_are_cut_and_scaled(keras):
    image = keras.Input((64, 64, 300))
    model = keras.Model(image, keras.layers.Conv2D(512, 3, padding="same", name="wide")(image))
    head = keras.layers.Conv2D(4, 1, name="head")(model.output)
    model = keras.Model(image, head)
    graph = channel_groups(model)
    asked = []

    def ask(probes):
        asked.extend(probes)
        return by_macs(probes)

    profile = profiles(model, graph, ask)[0]
    assert max(probe.macs for probe in asked) < 3_000_000
    assert profile.costs[-1] == pytest.approx(64 * 64 * (9 * 300 * 512 + 512 * 4), rel=1e-6)
    assert profile.costs[0] == pytest.approx(profile.costs[-1] * profile.counts[0] / 512, rel=1e-6)
