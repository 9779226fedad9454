"""Run a model above the limit of one ONNX file through all stages and export it; the limit is lowered for it."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from pipeline import Recipe
from pipeline import run as run_recipe
from pipeline.cli import build_app
from pipeline.errors import StoreError
from stages.keras.tensorflow import import_keras

SIMPLE = (
    ("control: true\n", ""),
    ("  - prune: {criterion: l2, ratio: 0.5, round_to: 2}\n", ""),
    ("  - finetune: {epochs: 1, batch: 32, learning_rate: 0.01}\n  - strip\n", ""),
    ("schemes: [float32, int8]", "schemes: [float32, weight_only]"),
    ("formats: [tflite, onnx]", "formats: [onnx]"),
    ("tflite/int8.accuracy", "onnx/float32.accuracy"),
)
APP = build_app(["export", "bench", "compare", "profile"])
BRIEF = ("--rounds", "2", "--seconds", "0.005")


def command(*arguments):
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def wide_model():
    """Build a network for the tiny one's data, with kernels large enough for a second file."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(1)
    image = keras.Input((12, 12, 1), name="image")
    x = layers.Conv2D(32, 3, strides=2, activation="relu", name="stem")(image)
    x = layers.Conv2D(32, 3, activation="relu", name="middle")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x), name="wide")


@pytest.fixture
def large(recipe, tmp_path, small_files):
    """Return the manifest of a run in which a file holds 1,000 bytes, and its store."""
    path = recipe(epochs=1, replace=SIMPLE)
    (tmp_path / "tiny.keras").unlink()
    wide_model().save(tmp_path / "tiny.keras")
    return run_recipe(Recipe.load(path), store=tmp_path / "store"), tmp_path / "store"


def files_of(manifest, entry_id):
    (entry,) = (entry for entry in manifest.stages if entry.id == entry_id)
    return {file.name: file.digest.removeprefix("sha256:") for file in entry.outputs[0].files}


def test_the_whole_pipeline_and_the_commands_take_a_model_of_two_files(large, tmp_path):
    manifest, store = large
    assert manifest.verdict == "pass"
    for axis in ("onnx/float32", "onnx/weight_only"):
        assert list(files_of(manifest, f"export:{axis}")) == ["model.onnx", "model.onnx.data"]
        assert manifest.metrics[f"{axis}@cpu.latency_ratio"] > 0
    assert manifest.metrics["onnx/float32.max_abs_diff"] < 1e-5
    assert not any((store / "work").iterdir())

    out = tmp_path / "out"
    command("export", manifest.run_id, out, "--store", store)
    file = out / "onnx" / "float32" / "model.onnx"
    assert file.with_name("model.onnx.data").is_file()
    onnxruntime.InferenceSession(file).run(None, {"image": np.zeros((1, 12, 12, 1), np.float32)})
    (entry,) = json.loads(command("bench", file, *BRIEF, "--json"))["entries"]
    size = file.stat().st_size + file.with_name("model.onnx.data").stat().st_size
    assert entry["metrics"]["size_bytes"] == size == manifest.metrics["onnx/float32.size_bytes"]

    stored = f"{manifest.run_id}:onnx/float32"
    same = ("--metric", "size", "--metric", "accuracy", "--data", tmp_path / "tiny.yaml", "--store", store, "--json")
    (pair,) = json.loads(command("compare", stored, file, *BRIEF, *same))["pairs"]
    assert pair["baseline"]["digest"] == pair["candidate"]["digest"] == entry["digest"]
    assert [metric["change"] for metric in pair["metrics"]] == [0, 0]
    profile = json.loads(command("profile", stored, "--store", store, "--json"))
    assert "stem" in {layer for operator in profile["operators"] for layer in operator["layers"]}


def test_data_that_was_damaged_in_the_store_is_never_used(large, tmp_path):
    manifest, store = large
    digest = files_of(manifest, "export:onnx/float32")["model.onnx.data"]
    blob = store / "blobs" / "sha256" / digest
    data = bytearray(blob.read_bytes())
    data[5000] ^= 1
    shutil.copyfile(blob, tmp_path / "whole")
    blob.write_bytes(data)
    with pytest.raises(StoreError, match="the file of onnx/float32 is damaged in the store"):
        command("bench", f"{manifest.run_id}:onnx/float32", *BRIEF, "--store", store)
    again = run_recipe(Recipe.load(tmp_path / "tiny.yaml"), store=store)
    assert again.verdict == "pass"
    assert blob.read_bytes() == (tmp_path / "whole").read_bytes()
    (export,) = (entry for entry in again.stages if entry.id == "export:onnx/float32")
    assert export.status == "ran"
