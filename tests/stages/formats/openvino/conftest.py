"""A run that exports the tiny network in all schemes that OpenVINO takes, once for all tests here."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.recipe.recipe import Recipe
from pipeline.records.artifacts import Artifact
from pipeline.records.manifest import RunManifest
from pipeline.running.run import run

SCHEMES = ["float32", "float16", "weight_only", "int8"]


@pytest.fixture(autouse=True)
def installed() -> None:
    if find_spec("openvino") is None:
        pytest.skip("pip install openvino")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_xception: Any, tiny_images: Any) -> Callable[..., Recipe]:
    folder = tmp_path_factory.mktemp("openvino")
    tiny_xception.save(folder / "tiny.keras")
    labels = np.asarray(tiny_xception(tiny_images, training=False)).argmax(1)
    np.savez(folder / "images.npz", x_train=tiny_images, y_train=labels, x_test=tiny_images[:16], y_test=labels[:16])

    def make(schemes: list[str], formats: list[str], *after: Any, **export: Any) -> Recipe:
        data = {"source": "npz", "path": "images.npz", "calibration": {"from": "train", "take": 16}}
        data |= {"validation": "train", "test": "test"}
        stages = ["load", {"quantize": {"schemes": schemes}}, {"export": {"formats": formats, **export}}, *after]
        path = folder / f"recipe-{abs(hash(json.dumps(stages)))}.yaml"
        path.write_text(json.dumps({"name": "openvino", "model": "tiny.keras", "data": data, "stages": stages}))
        return Recipe.load(path)

    return make


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def manifest(recipe: Callable[..., Recipe], store: Path) -> RunManifest:
    """The run: exports in ONNX and OpenVINO, verified."""
    if find_spec("openvino") is None:
        pytest.skip("pip install openvino")
    return run(recipe(SCHEMES, ["onnx", "openvino"], "verify"), store)


@pytest.fixture(scope="module")
def artifact_of(manifest: RunManifest) -> Callable[[str], Artifact]:
    return lambda axis: next(e for e in manifest.stages if (e.stage, e.axis) == ("export", axis)).outputs[0]


@pytest.fixture(scope="module")
def path_of(
    artifact_of: Callable[[str], Artifact], store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The first file of an export by its axis, the others beside it, as copies that tests may damage."""
    folder = tmp_path_factory.mktemp("exported")

    def place(axis: str) -> Path:
        artifact = artifact_of(axis)
        here = folder / axis.replace("/", "-")
        here.mkdir(exist_ok=True)
        for file in artifact.files:
            blob = store / "blobs" / "sha256" / file.digest.removeprefix("sha256:")
            (here / file.name).write_bytes(blob.read_bytes())
        return here / artifact.files[0].name

    return place
