"""Provide a small network with batch normalizations, and a split."""

from typing import Any

import numpy as np
import pytest

from pipeline.data import Preprocess, Split
from stages.keras.tensorflow import import_keras


@pytest.fixture
def model():
    """Build two normalizations, the second not trainable, with dropout and noise around them."""
    layers = import_keras().layers
    vector = import_keras().Input((5,))
    x = layers.Dropout(0.9)(layers.GaussianNoise(10.0)(vector))
    x = layers.BatchNormalization(name="first")(x)
    x = layers.Dropout(0.5)(layers.Dense(4, name="dense")(x))
    return import_keras().Model(vector, layers.BatchNormalization(name="second", trainable=False)(x))


def _split(x, name="train"):
    return Split(name, "sha256:0", x, np.zeros(len(x), np.int64), Preprocess())


@pytest.fixture(scope="session")
def split() -> Any:
    return _split
