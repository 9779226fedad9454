"""Provide samples whose labels are the answers of a model."""

from typing import Any

import numpy as np
import pytest

from pipeline.data import Preprocess, Split


def _split(model, count=24):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (count, 28, 28, 1)).astype(np.float32)
    return Split("validation", "sha256:0", x, np.argmax(model(x), axis=-1).astype(np.int64), Preprocess())


@pytest.fixture(scope="session")
def split() -> Any:
    return _split
