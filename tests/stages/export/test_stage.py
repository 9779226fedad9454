"""Test the export stage: a file that its runtime ran, its facts, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.contracts.stage import StageResult
from pipeline.data.samples import Preprocess
from pipeline.errors import ModelError, PostconditionError, PreconditionError
from pipeline.records.artifacts import Artifact
from pipeline.records.facts import CalibrationFacts
from stages.export.config import ExportConfig
from stages.export.stage import ExportStage
from stages.formats.onnx.facts import ONNXFacts
from stages.formats.registry import load_exported, whole_model
from stages.formats.tflite.facts import TFLiteFacts
from stages.keras.normal_form import decode_model
from stages.keras.tensorflow import import_keras

STAGE = ExportStage()


def run(context: Any) -> StageResult:
    STAGE.requires(context.config, context.inputs)
    result = STAGE.run(context)
    STAGE.ensures(context, result)
    return result


@pytest.mark.parametrize(("target_format", "scheme"), [("tflite", "int8"), ("onnx", "int8"), ("onnx", "float32")])
def test_an_export_is_a_file_with_facts_that_its_runtime_runs(
    exporting: Callable[..., Any], target_format: Any, scheme: Any, tiny_images: Any
) -> None:
    context = exporting(target_format, scheme)
    result = run(context)
    (artifact,) = result.outputs
    facts = artifact.facts
    assert isinstance(facts, TFLiteFacts if target_format == "tflite" else ONNXFacts)
    assert facts.scheme == scheme
    assert [spec.name for spec in (*facts.inputs, *facts.outputs)] == ["image", "head"]
    assert facts.operators["CONV_2D" if target_format == "tflite" else "Conv"] >= 2
    (file,) = artifact.files
    assert file.name == f"model.{target_format}"
    data = (context.folder / file.digest.removeprefix("sha256:")).read_bytes()
    model = decode_model(context.read("model", "model.keras"))
    outputs = load_exported(artifact.kind, data).run({"image": tiny_images})["head"]
    np.testing.assert_allclose(outputs, np.asarray(model(tiny_images)), atol=0.1 if scheme == "int8" else 1e-5)
    quantized = context.inputs["model"].facts
    assert result.metrics["size_bytes"] == len(data) == file.size
    assert result.metrics["params"] == quantized.params == model.count_params()
    assert result.metrics["macs"] == quantized.macs > 0
    assert 0 < result.metrics["export_difference"] < 0.1
    assert context.warnings == []
    assert (context.progress[-1] if scheme == "int8" else (64, 64)) == (64, 64)


def test_the_file_says_what_it_was_made_of_and_nothing_of_us(exporting: Callable[..., Any]) -> None:
    context = exporting("onnx", "dynamic")
    file = run(context).outputs[0].files[0]
    data = (context.folder / file.digest.removeprefix("sha256:")).read_bytes()
    model = onnx.load_from_string(data)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "converter": "tf2onnx",
        "model": context.inputs["model"].facts.model_digest,
        "scheme": "dynamic",
    }
    assert model.producer_name == "tf2onnx"
    context = exporting("tflite", "float32")
    file = run(context).outputs[0].files[0]
    data = (context.folder / file.digest.removeprefix("sha256:")).read_bytes()
    expected = {
        "converter": "tensorflow.lite", "model": context.inputs["model"].facts.model_digest, "scheme": "float32"
    }  # fmt: skip
    assert json.dumps(expected, sort_keys=True, separators=(",", ":")).encode() in data


@pytest.mark.parametrize("target_format", ["tflite", "onnx"])
def test_labels_and_preprocessing_are_in_the_file(exporting: Callable[..., Any], target_format: Any) -> None:
    said = {"labels": ("cat", "dog", "emu", "fox"), "preprocess": Preprocess(mode="tf")}
    context = exporting(target_format, "float32", **said)
    file = run(context).outputs[0].files[0]
    data = (context.folder / file.digest.removeprefix("sha256:")).read_bytes()
    if target_format == "onnx":
        found = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
        assert json.loads(found["labels"]) == ["cat", "dog", "emu", "fox"]
        assert json.loads(found["preprocess"]) == {"mode": "tf"}
    else:
        assert b'"labels":["cat","dog","emu","fox"]' in data
        assert b'"preprocess":{"mode":"tf"}' in data
    context = exporting(target_format, "float32", labels=("cat", "dog"))
    with pytest.raises(PreconditionError, match="2 labels, and no output of the model has so many") as caught:
        run(context)
    assert caught.value.where == "export.labels"


def test_transposes_are_counted_and_held_at_a_bound(exporting: Callable[..., Any]) -> None:
    context = exporting("onnx", "float32")
    result = run(context)
    facts = result.outputs[0].facts
    assert facts.transposes == facts.operators["Transpose"] == result.metrics["transposes"] == 1
    with pytest.raises(PostconditionError, match="1 Transposes are left in the graph, 0 are allowed"):
        run(exporting("onnx", "float32", max_transposes=0))
    assert run(exporting("onnx", "float32", max_transposes=0, layout="nchw")).metrics["transposes"] == 0
    assert context.warnings == []


def test_many_transposes_are_a_warning_and_a_bound_where_one_is_set(exporting: Callable[..., Any]) -> None:
    keras = import_keras()
    inputs = keras.Input((4, 4, 4, 2), name="image")
    y = keras.layers.Conv3D(3, 3, padding="same", activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.MaxPooling3D(name="head")(y), name="video")
    context = exporting("onnx", "float32", model)
    result = run(context)
    assert result.metrics["transposes"] >= 2
    assert result.metrics["export_difference"] < 1e-5
    (warning,) = context.warnings
    count = int(result.metrics["transposes"])
    assert warning.startswith(f"{count} of the ONNX graph's ")
    assert "% of the bytes that pass between nodes" in warning
    with pytest.raises(PostconditionError, match=f"{count} Transposes are left in the graph, 1 are allowed"):
        run(exporting("onnx", "float32", model, max_transposes=1))


@pytest.mark.parametrize("target_format", ["tflite", "onnx"])
def test_what_computes_in_half_precision_is_exported_in_float32(
    exporting: Callable[..., Any], target_format: Any
) -> None:
    keras = import_keras()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        inputs = keras.Input((8, 8, 2), name="image")
        y = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3, activation="relu")(inputs))
        model = keras.Model(inputs, keras.layers.Dense(4, name="head", dtype="float32")(keras.layers.Flatten()(y)))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    result = run(exporting(target_format, "float32", model))
    assert result.metrics["export_difference"] < 1e-5  # half precision's rounding would be a hundred times as much


def test_int8_inputs_and_outputs_are_for_tflite(exporting: Callable[..., Any]) -> None:
    facts = run(exporting("tflite", "int8", io="int8")).outputs[0].facts
    assert [spec.dtype for spec in (*facts.inputs, *facts.outputs)] == ["int8", "int8"]
    context = exporting("onnx", "int8", io="int8")
    facts = run(context).outputs[0].facts
    assert [spec.dtype for spec in (*facts.inputs, *facts.outputs)] == ["float32", "float32"]
    assert len(context.warnings) == 1
    assert "TFLite" in context.warnings[0]


def test_the_opset_is_the_one_asked_for(exporting: Callable[..., Any]) -> None:
    facts = run(exporting("onnx", "float32", opset=15)).outputs[0].facts
    assert (facts.opset, facts.ir_version) == (15, 8)


@pytest.mark.parametrize("target_format", ["tflite", "onnx"])
def test_outputs_that_are_not_finite_are_never_published(exporting: Callable[..., Any], target_format: Any) -> None:
    keras = import_keras()
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(2, name="y")(inputs), name="broken")
    model.set_weights([np.full((4, 2), np.nan, np.float32), np.zeros(2, np.float32)])
    context = exporting(target_format, "float32", model)
    before = {path.name for path in context.folder.iterdir()}
    with pytest.raises(PostconditionError, match="output 'y' of the exported file is not finite"):
        run(context)
    assert {path.name for path in context.folder.iterdir()} <= before | {"work"}


def test_a_difference_beyond_rounding_fails_the_check(exporting: Callable[..., Any]) -> None:
    context = exporting("tflite", "float32")
    made = run(context).outputs
    STAGE.ensures(context, StageResult(outputs=made, metrics={"export_difference": 9e-4}))
    for difference in (2e-3, float("nan")):
        with pytest.raises(PostconditionError, match=r"1e-03 is allowed"):
            STAGE.ensures(context, StageResult(outputs=made, metrics={"export_difference": difference}))


def test_what_is_asked_for_before_any_work(exporting: Callable[..., Any]) -> None:
    context = exporting("onnx", "int8")
    with pytest.raises(PreconditionError, match="one format, not 2"):
        STAGE.requires(ExportConfig(formats=("tflite", "onnx")), context.inputs)
    artifact = context.inputs["model"]
    bare = Artifact(files=artifact.files[:1], facts=artifact.facts.model_copy(update={"calibration": None}))
    with pytest.raises(PreconditionError, match="without its calibration set"):
        STAGE.requires(context.config, {"model": bare})
    with pytest.raises(PreconditionError, match="a quantized-model is wanted, this is a calibration-set"):
        STAGE.requires(context.config, {"model": Artifact(files=(), facts=CalibrationFacts(samples=1))})


def test_a_pair_that_there_is_none_of_is_refused_before_any_work(exporting: Callable[..., Any]) -> None:
    context = exporting("onnx", "int16x8")
    with pytest.raises(PreconditionError, match="16-bit activations"):
        STAGE.requires(context.config, context.inputs)


def test_what_one_file_does_not_hold_is_an_artifact_of_two(
    exporting: Callable[..., Any], tiny_images: Any, request: pytest.FixtureRequest
) -> None:
    usual = run(exporting("onnx", "float32"))
    request.getfixturevalue("small_files")
    context = exporting("onnx", "float32")
    result = run(context)
    (artifact,) = result.outputs
    assert artifact.names == ("model.onnx", "model.onnx.data")
    assert artifact.facts == usual.outputs[0].facts
    assert result.metrics["size_bytes"] == artifact.size_bytes == sum(file.size for file in artifact.files)
    assert result.metrics["export_difference"] == usual.metrics["export_difference"]
    assert run(exporting("onnx", "float32")).outputs == result.outputs
    assert list(context.work_dir.iterdir()) == []
    path = whole_model(
        artifact.kind, artifact.names, lambda name: context.stored(artifact.file(name)), context.folder / "whole"
    )
    one = load_exported("onnx-model", context.stored(usual.outputs[0].files[0]))
    outputs = [loaded.run({"image": tiny_images})["head"] for loaded in (load_exported("onnx-model", path), one)]
    np.testing.assert_array_equal(*outputs)


def test_float16_refuses_weights_beyond_its_range_and_blames_no_converter(exporting: Callable[..., Any]) -> None:
    keras = import_keras()
    start = keras.Input((6,), name="v")
    wide = keras.initializers.Constant(1e6)
    model = keras.Model(start, keras.layers.Dense(2, kernel_initializer=wide, name="wide")(start))
    with pytest.raises(ModelError, match=r"'wide' .* beyond the range of float16") as caught:
        run(exporting("tflite", "float16", model))
    assert "report" not in str(caught.value.hint)
    context = exporting("onnx", "float16", model)
    run(context)
    assert any("'wide' (up to 1e+06) stay in float32" in said for said in context.warnings)
