import numpy as np
import pytest

from pipeline.errors import ModelError, PreconditionError
from stages.prune.config import PruneConfig, RankingConfig
from stages.prune.criteria import group_scores, normalised
from stages.prune.criteria.activations import zero_shares
from stages.prune.groups import channel_groups
from stages.prune.samples import samples_of


@pytest.fixture
def two_layers(keras):
    """Two convolutions of other filter sizes that are added (one group, named by b), and a separable one."""
    image = keras.Input((6, 6, 2))
    a = keras.layers.Conv2D(3, 3, padding="same", name="a")(image)
    b = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(3, 1, name="b")(image))
    x = keras.layers.SeparableConv2D(4, 3, depth_multiplier=2, name="separable")(keras.layers.Add()([a, b]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, name="head")(x))


def scores(model, criterion, seed=0, data=None, **settings):
    graph = channel_groups(model)
    config = RankingConfig(criterion=criterion, **settings)
    samples = None if data is None else samples_of(model, data)
    found = group_scores(model, graph.prunable, config, seed, samples)
    return {group.name: values for group, values in zip(graph.prunable, found, strict=True)}


@pytest.mark.parametrize(
    ("criterion", "norm"), [("l1", lambda w: np.abs(w).mean()), ("l2", lambda w: np.sqrt((w**2).mean()))]
)
def test_filters_by_their_mean_size_over_the_layers_that_make_a_channel(two_layers, randomise, criterion, norm):
    randomise(two_layers)
    a, b = (two_layers.get_layer(name).get_weights()[0] for name in "ab")
    expected = [(norm(a[..., i]) + norm(b[..., i])) / 2 for i in range(3)]
    np.testing.assert_allclose(scores(two_layers, criterion)["b"], expected, rtol=1e-6)


def test_separable_filters_are_pointwise_times_depthwise(two_layers, randomise):
    depthwise, pointwise, _ = randomise(two_layers).get_layer("separable").get_weights()
    sizes = np.sqrt((depthwise**2).mean((0, 1))).ravel()  # channel 0 first, its two filters, then channel 1
    expected = np.sqrt(((pointwise[0, 0] * sizes[:, None]) ** 2).mean(0))
    np.testing.assert_allclose(scores(two_layers, "l2")["separable"], expected, rtol=1e-6)


def test_scales_of_batch_normalisation_or_nothing(two_layers, randomise):
    layer = randomise(two_layers).get_layer("norm")
    layer.gamma.assign([0.5, -2.0, 0.0])
    found = scores(two_layers, "bn_scale")
    np.testing.assert_array_equal(found["b"], [0.5, 2.0, 0.0])
    assert found["separable"] is None


def test_scores_of_concatenated_layers_go_to_their_own_channels(keras, randomise):
    image = keras.Input((4, 4, 2))
    parts = [keras.layers.Conv2D(n, 1, name=name, use_bias=False)(image) for name, n in (("a", 2), ("b", 3))]
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Concatenate()(parts))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    model.get_layer("norm").gamma.assign([1.0, 2.0, 3.0, 4.0, 5.0])
    found = scores(randomise(model), "bn_scale")
    gamma = model.get_layer("norm").gamma.numpy()
    np.testing.assert_array_equal(found["a"], gamma[:2])
    np.testing.assert_array_equal(found["b"], gamma[2:])


def test_random_scores_follow_from_the_seed(two_layers):
    first, again, other = (scores(two_layers, "random", seed)["separable"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
