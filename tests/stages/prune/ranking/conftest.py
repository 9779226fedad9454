"""Provide a small network, and its scores by a criterion."""

from typing import Any

import pytest

from stages.keras.channels.groups import channel_groups
from stages.prune.config import RankingConfig
from stages.prune.ranking.scoring import group_scores
from stages.samples.model_samples import samples_of


@pytest.fixture
def two_layers(keras):
    """Build two convolutions of other filter sizes that are added (one group, named by b), and a separable one."""
    image = keras.Input((6, 6, 2))
    a = keras.layers.Conv2D(3, 3, padding="same", name="a")(image)
    b = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(3, 1, name="b")(image))
    x = keras.layers.SeparableConv2D(4, 3, depth_multiplier=2, name="separable")(keras.layers.Add()([a, b]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, name="head")(x))


def _scores(model, criterion, seed=0, data=None, **settings):
    graph = channel_groups(model)
    config = RankingConfig(criterion=criterion, **settings)
    samples = None if data is None else samples_of(model, data)
    found = group_scores(model, graph.prunable, config, seed, samples)
    return {group.name: values for group, values in zip(graph.prunable, found, strict=True)}


@pytest.fixture(scope="session")
def scores() -> Any:
    return _scores


def _with_relus(keras):
    """Build a convolution with its own ReLU, one with it after batch normalization, one without any."""
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, activation="relu", name="own")(image)
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 1, name="later")(x))
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 2, name="none")(x))
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head")(x))


@pytest.fixture(scope="session")
def with_relus() -> Any:
    return _with_relus
