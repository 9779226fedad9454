"""Provide a small network with its pruned version, and samples for both."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.keras.channels.left import channels_left
from stages.keras.tensorflow import import_keras
from stages.prune import PruneConfig, prune_model

COUNT = 60


def _network() -> Any:
    layers, image = import_keras().layers, import_keras().Input((6, 6, 2), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.Add(name="add")([x, layers.SeparableConv2D(8, 3, padding="same", name="separable")(x)])
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(x)
    x = layers.Dense(3, activation="softmax", name="head")(layers.GlobalAveragePooling2D(name="pool")(x))
    return import_keras().Model(image, x, name="small")


@pytest.fixture
def network() -> Any:
    """Return a function that builds the network."""
    return _network


@pytest.fixture
def images() -> Any:
    return np.random.default_rng(0).standard_normal((COUNT, 6, 6, 2)).astype(np.float32)


@pytest.fixture
def small(randomize: Any) -> Any:
    """Return the source, the pruned model, prune's report of it and what is kept."""
    source = randomize(_network())
    result = prune_model(source, PruneConfig(ratio=0.5, criterion="random", scope="layer"), seed=1)
    kept = {name: np.asarray(places) for name, places in result.report.kept.items()}
    return SimpleNamespace(source=source, pruned=result.model, report=result.report, kept=kept)


@pytest.fixture
def cut_kept(cut: Any) -> Any:
    """Return a function that cuts random channels out of a model, and returns the source, the rest and what is kept."""

    def make(model: Any, seed: int = 0) -> Any:
        result = cut(model, seed)
        kept = channels_left(result.model, result.graph, result.keep)
        return SimpleNamespace(source=result.model, pruned=result.pruned, kept=kept)

    return make
