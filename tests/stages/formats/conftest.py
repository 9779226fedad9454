"""A recipe that exports the tiny network, and its store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import RunManifest


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_xception: Any, tiny_images: Any) -> Callable[..., Recipe]:
    folder = tmp_path_factory.mktemp("exports")
    tiny_xception.save(folder / "tiny.keras")
    labels = np.asarray(tiny_xception(tiny_images, training=False)).argmax(1)
    np.savez(folder / "images.npz", x_train=tiny_images, y_train=labels, x_test=tiny_images[:16], y_test=labels[:16])

    def make(schemes: list[str], formats: list[str], *after: Any, **export: Any) -> Recipe:
        data = {"source": "npz", "path": "images.npz", "calibration": {"from": "train", "take": 16}}
        data |= {"validation": "train", "test": "test"}
        stages = ["load", {"quantize": {"schemes": schemes}}, {"export": {"formats": formats, **export}}, *after]
        path = folder / f"recipe-{abs(hash(json.dumps(stages)))}.yaml"
        path.write_text(json.dumps({"name": "exports", "model": "tiny.keras", "data": data, "stages": stages}))
        return Recipe.load(path)

    return make


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def _blob(store: Path, file: Any) -> bytes:
    return (store / "blobs" / "sha256" / file.digest.removeprefix("sha256:")).read_bytes()


@pytest.fixture(scope="session")
def blob() -> Any:
    return _blob


def _exported(manifest: RunManifest, axis: str) -> Any:
    return next(e for e in manifest.stages if (e.stage, e.axis) == ("export", axis)).outputs[0]


@pytest.fixture(scope="session")
def exported() -> Any:
    return _exported


@pytest.fixture(scope="session")
def spiky() -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Return a function that builds a network in which `spikes` of 64 samples drive one channel 50 times as far.

    What follows reads nothing but this channel, or all but this one.
    """
    from stages.keras.tensorflow import import_keras

    def build(spikes: int, *, read: bool) -> tuple[Any, dict[str, Any]]:
        layers, rng = import_keras().layers, np.random.default_rng(0)
        image = import_keras().Input((32, 32, 1), name="image")
        wide, head = layers.Conv2D(16, 1, activation="relu"), layers.Conv2D(4, 8, strides=8, name="head")
        model = import_keras().Model(image, head(wide(image)))
        weights, biases = rng.uniform(0.02, 0.04, (1, 1, 1, 16)), np.zeros(16)
        weights[..., 0], biases[0] = 2.0, -1.0  # only what is above a half passes
        wide.set_weights([weights, biases])
        kernel = rng.normal(size=(8, 8, 16, 4))
        kernel[:, :, np.arange(16) != 0 if read else np.arange(16) == 0] = 0
        head.set_weights([kernel, np.zeros(4)])
        x = rng.uniform(0, 0.5, (64, 32, 32, 1)).astype(np.float32)
        x[:spikes, 5, 5, 0] = np.linspace(0.6, 1, spikes)
        return model, {"image": x}

    return build
