"""Provide small models of both Keras versions, each with every weight in use."""

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras
from stages.load.keras3 import import_keras3


def shaken(model):
    """Return the model with weights as training leaves them, including batch statistics."""
    rng = np.random.default_rng(5)
    for variable in model.weights:
        if "float" in str(variable.dtype):
            shape = tuple(variable.shape)
            positive = any(word in variable.name for word in ("variance", "gamma"))
            variable.assign(rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, 0.4, shape))
    return model


@pytest.fixture(params=["Keras 2", "Keras 3"])
def either_keras(request):
    return import_keras() if request.param == "Keras 2" else import_keras3()


@pytest.fixture
def keras2():
    return import_keras()


@pytest.fixture
def keras3():
    return import_keras3()


@pytest.fixture
def residual():
    """Build a small residual network with a nested model in either Keras: 8×8×3 → 4 classes."""

    def make(keras):
        layers = keras.layers
        image = keras.Input((8, 8, 3), name="image")
        x = layers.Rescaling(1 / 127.5, -1.0, name="scale")(image)
        x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(x)
        x = layers.ReLU(6.0, name="relu")(layers.BatchNormalization(name="bn")(x))
        nested = keras.Sequential(
            [
                keras.Input((8, 8, 6)),
                layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
                layers.SeparableConv2D(6, 3, padding="same", activation="swish", name="separable"),
                layers.BatchNormalization(name="nested_bn"),
            ],
            name="nested",
        )
        x = layers.Add(name="add")([x, nested(x, training=False)])
        x = layers.Dropout(0.3, name="drop")(layers.GlobalAveragePooling2D(name="pool")(x))
        model = keras.Model(image, layers.Dense(4, activation="softmax", name="head")(x), name="residual")
        return shaken(model)

    return make


@pytest.fixture
def outputs():
    """Return outputs of a model of either Keras on the same images, in the range 0 to 255."""
    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 3)).astype("float32")
    return lambda model: np.asarray(model(images, training=False))
