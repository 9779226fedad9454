"""A run that exports the tiny network in all schemes that OpenVINO takes, once for all tests here."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

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
