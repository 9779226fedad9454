"""Provide small splits of every task, and a small network with stateful layers: dropout, normalization."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.data import Preprocess, Split
from stages.keras.tensorflow import import_keras


def split(name: str, x: Any, y: Any, task: Any = "classes") -> Split:
    return Split(name, "sha256:" + "0" * 64, x, y, Preprocess(), task)


def images(name: str, samples: int, seed: int, task: str = "classes") -> Split:
    """Make two classes that differ in mean brightness, with noise; other tasks express the same in their own way."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % 2
    x = (rng.integers(0, 200, (samples, 6, 6, 1)) + y[:, None, None, None] * 50).astype(np.float32) / 255
    targets = {
        "classes": y,
        "multilabel": np.stack([y, 1 - y, y], axis=1).astype(np.float32),
        "regression": np.stack([y * 2.0, 1.0 - y], axis=1).astype(np.float32),
        "unlabelled": None,
    }
    return split(name, x, targets[task], task)


@pytest.fixture
def samples() -> Any:
    """Make a split of inputs and targets."""
    return split


@pytest.fixture
def pair() -> Any:
    """Return training and validation splits of a task."""
    return lambda task="classes": (images("train", 70, 0, task), images("validation", 40, 1, task))


@pytest.fixture
def network() -> Any:
    """Build a network with this many outputs."""

    def make(outputs: int = 2, activation: str | None = "softmax", filters: int = 4) -> Any:
        layers = import_keras().layers
        return import_keras().Sequential(
            [
                layers.Input((6, 6, 1), name="image"),
                layers.Conv2D(filters, 3, activation="relu", name="conv"),
                layers.BatchNormalization(momentum=0.1, name="norm"),
                layers.Flatten(),
                layers.Dropout(0.3, name="dropout"),
                layers.Dense(outputs, activation=activation, name="head"),
            ]
        )

    return make
