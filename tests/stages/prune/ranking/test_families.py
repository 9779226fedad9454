from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.keras.channels.groups import channel_groups
from stages.prune import PruneConfig, prune_model
from stages.prune.ranking.families import by_sensitivity, one_ranking, one_ranking_per_class
from stages.prune.ranking.isomorphism import isomorphism_classes


@st.composite
def networks(draw):
    """Draw groups: the sizes of the source's, how many are left of each, scores, and classes in any order."""
    sizes = draw(st.lists(st.integers(2, 40), min_size=1, max_size=6))
    left = [draw(st.integers(1, size)) for size in sizes]
    classes = [draw(st.integers(0, 2)) for _ in sizes]
    scores = [np.array(draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), np.float64) for n in left]
    return sizes, scores, classes


@given(networks(), st.floats(0, 1))
def test_every_class_keeps_the_same_share_of_the_source_within_one_channel(network, level):
    sizes, scores, classes = network
    counts = one_ranking_per_class(scores, [0] * len(sizes), sizes, classes)(level)
    for number in set(classes):
        inside = np.array(classes) == number
        now = sum(score.size for score, chosen in zip(scores, inside, strict=True) if chosen)
        assert abs(counts[inside].sum() - min(now, (1 - level) * np.array(sizes)[inside].sum())) <= 0.5 + 1e-9


@given(networks(), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_what_goes_from_a_class_scores_no_more_than_what_stays_and_stays_gone(network, levels):
    sizes, scores, classes = network
    curve = one_ranking_per_class(scores, [0] * len(sizes), sizes, classes)
    few, many = (curve(level) for level in sorted(levels))
    assert (many <= few).all()
    for number in set(classes):
        members = [index for index, other in enumerate(classes) if other == number]
        gone = [np.sort(scores[index])[: scores[index].size - int(few[index])] for index in members]
        stays = [np.sort(scores[index])[scores[index].size - int(few[index]) :] for index in members]
        assert max(np.concatenate(gone), default=0) <= min(np.concatenate(stays), default=9)


@given(networks(), st.floats(0, 1))
def test_with_one_class_it_is_one_ranking(network, level):
    _, scores, _ = network
    sizes, floors = [score.size for score in scores], [0] * len(scores)
    separate = one_ranking_per_class(scores, floors, sizes, [3] * len(sizes))(level)
    np.testing.assert_array_equal(separate, one_ranking(scores, floors)(level))


def test_floors_hold_though_their_class_then_loses_less_than_others():
    scores = [np.arange(4.0), np.arange(8.0)]
    curve = one_ranking_per_class(scores, [3, 1], [4, 8], [0, 1])
    np.testing.assert_array_equal(curve(0.5), [3, 4])
    np.testing.assert_array_equal(curve(1.0), [3, 1])
    np.testing.assert_array_equal(curve(0.0), [4, 8])


@pytest.fixture
def residual(keras, randomize):
    """Build two equally built residual stages whose narrow inner layers have weights a hundred times as small."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", name="stem")(image)
    for stage, width in enumerate((16, 32)):
        x = layers.Conv2D(width, 1, name=f"enter{stage}")(x)
        y = layers.ReLU()(layers.Conv2D(width // 2, 3, padding="same", name=f"narrow{stage}")(x))
        x = layers.ReLU()(layers.Add()([x, layers.Conv2D(width, 3, padding="same", name=f"widen{stage}")(y)]))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(40, 1, name="wide")(x))
    model = randomize(keras.Model(image, layers.Dense(4, name="head")(x)))
    for stage in range(2):
        for name in (f"narrow{stage}", f"widen{stage}"):
            weights = model.get_layer(name).get_weights()
            model.get_layer(name).set_weights([0.01 * weights[0], weights[1]])
    return model


BY_LOSS = {"criterion": "hessian", "samples": 8, "ratio": 0.5}
BY_SIZE = {"criterion": "l2", "normalisation": "none", "macs": 0.4}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8, 3)).astype(np.float32)


def left(report):
    return {group.name: group.channels_after for group in report.groups if not group.frozen}


@pytest.mark.parametrize("settings", [BY_LOSS, BY_SIZE])
def test_narrow_layers_that_one_ranking_empties_keep_their_share_among_their_like(residual, settings):
    together = prune_model(residual, PruneConfig(compete="all", **settings), data=IMAGES).report
    apart = prune_model(residual, PruneConfig(**settings), data=IMAGES).report
    assert left(together)["narrow1"] == 1
    assert left(apart)["narrow0"] + left(apart)["narrow1"] >= 0.35 * 24
    assert (together.competition, apart.competition) == ("all", "isomorphic")
    assert "narrow1" in [group.name for group in together.depleted]
    for report in (together, apart):
        assert report.reached == pytest.approx(report.wanted, abs=0.02)  # one channel costs as much here


def test_each_class_of_a_real_network_loses_the_same_share(residual):
    report = prune_model(residual, PruneConfig(compete="isomorphic", **BY_LOSS), data=IMAGES).report
    graph = channel_groups(residual)
    classes = isomorphism_classes(residual, graph)
    assert len(set(classes)) < len(classes)
    counts = left(report)
    for number in set(classes):
        members = [g for g, other in zip(graph.prunable, classes, strict=True) if other == number]
        before, after = sum(g.channels.size for g in members), sum(counts[g.name] for g in members)
        assert after == pytest.approx(before / 2, abs=1)


def test_in_steps_every_class_ends_at_its_share_of_the_source(residual):
    from stages.prune.choosing.choice import ChoiceBasis

    def config(ratio):
        return PruneConfig(criterion="l2", compete="isomorphic", ratio=ratio)

    first = prune_model(residual, config(0.25)).model
    basis = ChoiceBasis(source=residual)
    twice, once = prune_model(first, config(0.5), basis=basis).report, prune_model(residual, config(0.5)).report
    graph = channel_groups(residual)
    classes = dict(zip((g.name for g in graph.prunable), isomorphism_classes(residual, graph), strict=True))
    for number in set(classes.values()):
        members = [name for name in classes if classes[name] == number]
        assert sum(left(twice)[n] for n in members) == pytest.approx(sum(left(once)[n] for n in members), abs=1)


def test_all_groups_give_as_much_as_costs_the_same_accuracy():
    tough, soft = [(0.25, 0.1), (0.5, 0.4)], [(0.25, 0.0), (0.5, 0.1)]
    curve = by_sensitivity([100, 100], [100, 100], [tough, soft])
    for level in np.linspace(0.01, 0.49, 7):
        first, second = curve(level)
        assert first >= second
    levels = [curve(level) for level in np.linspace(0, 1, 50)]
    assert all((later <= earlier).all() for earlier, later in pairwise(levels))
    np.testing.assert_allclose(levels[0], [100, 100], atol=1)
    np.testing.assert_allclose(levels[-1], [0, 0], atol=1)
    at_a_tenth = next(counts for counts in (curve(level) for level in np.linspace(0, 1, 2000)) if counts[0] <= 75)
    np.testing.assert_allclose(at_a_tenth, [75, 50], atol=1)
