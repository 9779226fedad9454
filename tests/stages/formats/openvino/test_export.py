"""Export OpenVINO models out of the ONNX export, with settings and metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import RunManifest
from pipeline.running.run import run
from stages.formats.openvino.ir import graph_of, metadata_in
from stages.formats.registry import load_exported

STORED = {"float32": "float32", "float16": "float16", "weight_only": "int8", "int8": "int8"}


def test_one_conversion_serves_both_formats(manifest: RunManifest) -> None:
    by_axis = {entry.axis: entry for entry in manifest.stages if entry.stage == "export"}
    for scheme in STORED:
        assert by_axis[f"openvino/{scheme}"].children == (by_axis[f"onnx/{scheme}"].key,)


def test_layout_batch_labels_and_preprocessing(
    recipe: Callable[..., Recipe], store: Path, tiny_xception: Any, tiny_images: Any, tmp_path: Path
) -> None:
    said: dict[str, Any] = {"labels": ["a<b", 'c"d', "é", "&"], "preprocess": {"mode": "tf"}}
    made = run(recipe(["float32"], ["openvino"], layout="nchw", batch=1, **said), store)
    artifact = next(e for e in made.stages if (e.stage, e.axis) == ("export", "openvino/float32")).outputs[0]
    assert [spec.shape for spec in (*artifact.facts.inputs, *artifact.facts.outputs)] == [(1, 2, 12, 12), (1, 4)]
    assert "Transpose" not in artifact.facts.operators
    for file in artifact.files:
        blob = store / "blobs" / "sha256" / file.digest.removeprefix("sha256:")
        (tmp_path / file.name).write_bytes(blob.read_bytes())
    found = metadata_in(graph_of(tmp_path / "model.xml"))
    assert found["layout"] == "nchw"
    assert json.loads(found["labels"]) == said["labels"]
    assert json.loads(found["preprocess"]) == said["preprocess"]
    outputs = load_exported("openvino-model", tmp_path / "model.xml").run({"image": tiny_images})["head"]
    np.testing.assert_allclose(outputs, np.asarray(tiny_xception(tiny_images, training=False)), atol=1e-5)
