"""Share what the tests of the verify stage need: an exported file as an artifact, and the stage run with its checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.contracts.stage import StageResult
from pipeline.records.artifacts import Artifact, TensorSpec
from stages.formats.onnx.facts import ONNXFacts
from stages.formats.tflite.facts import TFLiteFacts
from stages.verify.config import VerifyConfig
from stages.verify.stage import VerifyStage


@pytest.fixture(scope="session")
def export_artifact() -> Callable[..., Artifact]:
    """Return the artifact of a file's bytes, stored in a context."""

    def made(context: Any, pair: tuple[str, str], data: bytes) -> Artifact:
        spec = (TensorSpec(name="any", shape=(1,), dtype="float32"),)
        common: dict[str, Any] = {"scheme": pair[1], "inputs": spec, "outputs": spec, "operators": {}}
        file = context.write(f"model.{pair[0]}", data, "application/octet-stream")
        if pair[0] == "tflite":
            return Artifact(files=(file,), facts=TFLiteFacts(**common))
        return Artifact(files=(file,), facts=ONNXFacts(opset=17, ir_version=8, **common))

    return made


@pytest.fixture(scope="session")
def run() -> Callable[..., StageResult]:
    """Run the stage with its checks before and after."""
    stage = VerifyStage()

    def checked(context: Any) -> StageResult:
        stage.requires(context.config, context.inputs)
        result = stage.run(context)
        stage.ensures(context, result)
        return result

    return checked


@pytest.fixture(scope="module")
def labels(tiny_xception: Any, tiny_images: Any) -> Any:
    """Return the reference's classes, except for every fourth sample: its accuracy is 48 of 64."""
    said = np.asarray(tiny_xception(tiny_images, training=False)).argmax(axis=1)
    said[::4] = (said[::4] + 1) % 4
    return said


@pytest.fixture
def verifying(
    make_context: Callable[..., Any],
    make_split: Callable[..., Any],
    tiny_xception: Any,
    tiny_images: Any,
    labels: Any,
    export_artifact: Any,
) -> Callable[..., Any]:
    def make(pair: tuple[str, str], data: bytes, **settings: Any) -> Any:
        context = make_context(VerifyConfig(**settings), axis="/".join(pair))
        context.splits = {"test": make_split("test", tiny_images, labels)}
        export = export_artifact(context, pair, data)
        context.inputs = {"export": export, "reference": context.write_model(tiny_xception)}
        return context

    return make
