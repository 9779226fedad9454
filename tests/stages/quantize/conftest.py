from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras


@pytest.fixture(scope="module")
def lopsided() -> Any:
    """Build narrow → wide, whose first channel is large and read by nobody → head."""
    keras = import_keras()
    rng = np.random.default_rng(5)
    inputs = keras.Input((12,), name="x")
    narrow = keras.layers.Dense(24, activation="tanh", name="narrow")
    wide = keras.layers.Dense(24, activation="elu", name="wide")  # else equalizing would heal it
    head = keras.layers.Dense(4, activation="softmax", name="head")
    model = keras.Model(inputs, head(wide(narrow(inputs))), name="lopsided")
    for layer in (narrow, wide, head):
        kernel = rng.standard_normal(layer.kernel.shape).astype(np.float32) * 0.5
        layer.set_weights([kernel, np.zeros(kernel.shape[1], np.float32)])
    kernel = wide.kernel.numpy()
    kernel[:, 0] *= 1000
    wide.kernel.assign(kernel)
    kernel = head.kernel.numpy()
    kernel[0] = 0
    head.kernel.assign(kernel)
    return model
