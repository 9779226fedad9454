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
