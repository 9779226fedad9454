"""Provide small models of both Keras versions, each with every weight in use."""

import numpy as np
import pytest

from pipeline import Recipe, run
from stages.keras.normal_form import copy_model
from stages.keras.tensorflow import import_keras
from stages.load import load_model
from stages.load.keras3 import import_keras3

CLOSE = 1e-5


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


@pytest.fixture
def carried(keras3, tmp_path):
    """Save a model of Keras 3 with weights unlike its initial ones, load it, and check outputs; return it."""

    def carry(inputs, result, integers=False):
        model = keras3.Model(inputs, result, name="net")
        rng = np.random.default_rng(1)
        for variable in model.weights:
            if "float" in str(variable.dtype):
                variable.assign(np.abs(rng.normal(0.5, 0.3, tuple(variable.shape))))
        model.save(tmp_path / "m.keras")
        loaded = load_model(tmp_path / "m.keras")
        shapes = [(3, *tensor.shape[1:]) for tensor in model.inputs]
        x = [rng.integers(0, 5, s) if integers else rng.normal(size=s).astype("float32") for s in shapes]
        x = x[0] if len(x) == 1 else x
        theirs = [np.asarray(t) for t in keras3.tree.flatten(model(x, training=False))]
        for again in (loaded.model, copy_model(loaded.model)):
            ours = again(x, training=False)
            for a, b in zip(theirs, ours if isinstance(ours, list) else [ours], strict=True):
                assert np.abs(a - b).max() <= CLOSE * max(np.abs(a).max(), 1e-3)
        assert 0 <= loaded.translation_difference <= CLOSE
        return loaded.model

    return carry


@pytest.fixture
def loaded(tmp_path):
    """Run a recipe that loads a `model:` and strips it; return the manifest's entries and the stored files."""

    def of(model, stages="[load, strip]"):
        path = tmp_path / "recipe.yaml"
        path.write_text(f"name: it\nmodel: {model}\nstages: {stages}\n")
        manifest = run(Recipe.load(path), store=tmp_path / "store")
        blobs = tmp_path / "store" / "blobs" / "sha256"
        outputs = manifest.stages[0].outputs[0]
        return manifest.stages, {f.name: blobs / f.digest.removeprefix("sha256:") for f in outputs.files}

    return of
