"""Test the verify stage: good files pass with true figures, files of another function do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.contracts.stage import StageResult
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.records.facts import EvaluationFacts, ParityFacts
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.external_data import DATA_FILE
from stages.formats.onnx.session import load_onnx
from stages.formats.tflite.convert import convert_tflite
from stages.keras.normal_form import copy_model
from stages.keras.tensorflow import import_keras
from stages.samples.proportions import wilson_interval
from stages.verify.config import Bounds, Tolerances, VerifyConfig
from stages.verify.stage import VerifyStage

STAGE = VerifyStage()
PAIRS = [("tflite", "float32"), ("onnx", "float32"), ("tflite", "int8"), ("onnx", "int8")]


@pytest.fixture(scope="module")
def files(tiny_xception: Any, tiny_images: Any) -> dict[tuple[str, str], bytes]:
    """Return exports of the tiny network; the int8 TFLite file with int8 inputs and outputs."""
    return {
        ("tflite", "float32"): convert_tflite(tiny_xception, "float32"),
        ("tflite", "int8"): convert_tflite(tiny_xception, "int8", "int8", tiny_images),
        ("onnx", "float32"): convert_onnx(tiny_xception, "float32"),
        ("onnx", "int8"): convert_onnx(tiny_xception, "int8", calibration=tiny_images),
    }


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
def test_a_good_file_passes_with_true_figures(pair: Any, verifying: Callable[..., Any], files: Any, run: Any) -> None:
    context = verifying(pair, files[pair])
    result = run(context)
    parity, evaluation = (artifact.facts for artifact in result.outputs)
    assert isinstance(parity, ParityFacts)
    assert [row.inputs for row in parity.rows] == ["test", "zeros", "lowest", "highest", "extremes", "noise"]
    parity = parity.rows[0]
    assert parity.samples == evaluation.samples == 64
    assert 0 < parity.mean_abs_diff < parity.max_abs_diff < (1e-5 if pair[1] == "float32" else 0.08)
    assert parity.cosine > 0.995
    accuracy = result.metrics["accuracy"]
    assert isinstance(evaluation, EvaluationFacts)
    assert evaluation.metrics == {"accuracy": accuracy}
    assert accuracy + result.metrics["accuracy_drop_reference"] == pytest.approx(48 / 64)
    assert result.intervals["accuracy"] == wilson_interval(round(accuracy * 64), 64)
    if pair[1] == "float32":
        assert (accuracy, result.metrics["top1_agreement"]) == (0.75, 1.0)
    assert context.progress == [(64, 64), (64, 64)]  # the reference, then the export


def test_the_reference_runs_once_for_all_its_exports(verifying: Callable[..., Any], files: Any, run: Any) -> None:
    first, second = (verifying(pair, files[pair]) for pair in PAIRS[:2])
    run(first)
    result = run(second)
    assert second.progress == [(64, 64)]  # the export alone
    assert 0 < result.metrics["max_abs_diff"] < 0.08


def with_other_weights(data: bytes) -> bytes:
    """Return the same ONNX graph with one kernel's channels in reverse order."""
    model = onnx.load_from_string(data)
    kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = onnx.numpy_helper.to_array(kernel)[::-1].copy()
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    return bytes(model.SerializeToString())


def test_changed_weights_are_caught(verifying: Callable[..., Any], files: Any, run: Any) -> None:
    broken = with_other_weights(files["onnx", "float32"])
    context = verifying(("onnx", "float32"), broken)
    with pytest.raises(PostconditionError, match=r"relative difference is .*, at most 0.0001 is allowed") as caught:
        run(context)
    assert caught.value.where == "onnx/float32"
    assert "float32.max_diff" in str(caught.value.hint)
    kept = context.work_dir / "parity.json"
    assert str(kept) in str(caught.value.hint)
    figures = ParityFacts.model_validate_json(kept.read_bytes())
    assert figures.rows[0].max_abs_diff > 1e-3


def test_changed_weights_are_caught_in_int8(verifying: Callable[..., Any], files: Any, run: Any) -> None:
    broken = with_other_weights(files["onnx", "int8"])
    with pytest.raises(PostconditionError, match=r"cosine is .*, at least 0.95 is allowed.*worst is test sample \d+"):
        run(verifying(("onnx", "int8"), broken))


def test_one_flipped_byte_of_a_tflite_kernel_is_caught(verifying: Callable[..., Any], files: Any, run: Any) -> None:
    data = bytearray(files["tflite", "float32"])
    where = largest_weight(data)
    data[where + 3] ^= 0x80  # the sign of a float32
    with pytest.raises(PostconditionError, match=r"relative difference.*the first layer that differs is '\w+'"):
        run(verifying(("tflite", "float32"), bytes(data)))


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
@pytest.mark.parametrize("layer", ["stem", "separable", "head"])
def test_a_failure_names_the_layer_that_was_changed(
    verifying: Callable[..., Any], tiny_xception: Any, tiny_images: Any, pair: Any, layer: str, run: Any
) -> None:
    other = copy_model(tiny_xception)
    kernel, *rest = other.get_layer(layer).get_weights()
    other.get_layer(layer).set_weights([kernel[..., ::-1, :], *rest] if layer != "head" else [-kernel, *rest])
    convert = convert_tflite if pair[0] == "tflite" else convert_onnx
    data = convert(other, pair[1], calibration=tiny_images if pair[1] == "int8" else None)
    strict = Tolerances(int8=Bounds(min_cosine=0.999, min_sqnr_db=14.0))
    with pytest.raises(PostconditionError, match=f"the first layer that differs is '{layer}'"):
        run(verifying(pair, data, tolerances=strict))


def with_infinity(data: bytes) -> bytes:
    """Return the same ONNX graph with a kernel's first number infinite."""
    model = onnx.load_from_string(data)
    kernel = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4][-1]
    values = onnx.numpy_helper.to_array(kernel).copy()
    values.flat[0] = np.inf
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    return bytes(model.SerializeToString())


def test_numbers_that_are_not_finite_name_the_layer(verifying: Callable[..., Any], files: Any, run: Any) -> None:
    with pytest.raises(
        PostconditionError, match=r"the exported file are not finite.* layer that differs is 'separable"
    ):
        run(verifying(("onnx", "float32"), with_infinity(files["onnx", "float32"])))


def test_a_file_without_the_model_s_output_is_refused(verifying: Callable[..., Any], files: Any, run: Any) -> None:
    model = onnx.load_from_string(files["onnx", "float32"])
    model.graph.node[-1].output[0] = model.graph.output[0].name = "other"
    with pytest.raises(PostconditionError, match="the file has no output 'head'; it has other"):
        run(verifying(("onnx", "float32"), bytes(model.SerializeToString())))


@pytest.mark.parametrize("fmt", ["tflite", "onnx"])
def test_each_of_several_outputs_is_compared(
    make_context: Callable[..., Any], make_split: Callable[..., Any], fmt: str, run: Any, export_artifact: Any
) -> None:
    keras = import_keras()
    inputs = keras.Input((6,), name="x")
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")(inputs)
    outputs = [keras.layers.Dense(3, name="b")(hidden), keras.layers.Dense(2, name="a")(hidden)]
    model = keras.Model(inputs, outputs)
    other = copy_model(model)
    other.get_layer("a").set_weights([weight + 1 for weight in other.get_layer("a").get_weights()])
    x = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)

    def verify(exported: Any) -> StageResult:
        data = (convert_tflite if fmt == "tflite" else convert_onnx)(exported, "float32")
        context = make_context(VerifyConfig(), axis=f"{fmt}/float32")
        context.splits = {"test": make_split("test", x, np.zeros(9, int))}
        context.inputs = {
            "export": export_artifact(context, (fmt, "float32"), data),
            "reference": context.write_model(model),
        }
        return run(context)

    facts = verify(model).outputs[0].facts
    assert isinstance(facts, ParityFacts)
    assert [(row.inputs, row.output) for row in facts.rows[:3]] == [("test", "b"), ("test", "a"), ("zeros", "b")]
    with pytest.raises(PostconditionError, match=r"for output 'a' on test inputs.*the first layer that differs is 'a'"):
        verify(other)


def test_each_of_several_outputs_is_measured_and_bounded(
    make_context: Callable[..., Any], make_split: Callable[..., Any], run: Any, export_artifact: Any
) -> None:
    keras = import_keras()
    inputs = keras.Input((6,), name="x")
    model = keras.Model(inputs, [keras.layers.Dense(3, name="kind")(inputs), keras.layers.Dense(1, name="sum")(inputs)])
    x = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    kinds, sums = (np.asarray(output) for output in model(x))
    data = convert_tflite(model, "float32")
    biased = copy_model(model)  # the reference: the file's sums are off by 1
    biased.get_layer("sum").bias.assign_add([1.0])
    targets = {"kind": kinds.argmax(axis=1), "sum": sums + 2}
    loose = {"float32": {"max_diff": 100}}

    def verify(reference: Any, y: Any = targets, **settings: Any) -> StageResult:
        tasks = {"kind": "classes", "sum": "regression"}
        task = {name: tasks[name] for name in y}
        context = make_context(VerifyConfig(tolerances=loose, **settings), axis="tflite/float32")
        context.splits = {"test": make_split("test", x, y, task=task)}
        context.inputs = {
            "export": export_artifact(context, ("tflite", "float32"), data),
            "reference": context.write_model(reference),
        }
        return run(context)

    found = verify(model, max_accuracy_drop=0.0, max_mse_ratio=1.001).metrics
    assert found["accuracy[kind]"] == 1.0
    assert found["accuracy_drop_reference[kind]"] == 0.0
    assert found["mse[sum]"] == pytest.approx(4, rel=1e-4)
    assert found["mse_ratio_reference[sum]"] == pytest.approx(1, rel=1e-4)
    assert verify(biased).metrics["mse_ratio_reference[sum]"] == pytest.approx(4, rel=1e-3)  # 2² compared with 1²
    with pytest.raises(PostconditionError, match=r"the mse of output 'sum' is 4 of the reference's, 2 is allowed"):
        verify(biased, max_mse_ratio=2)
    only = {"kind": targets["kind"]}
    with pytest.raises(PostconditionError, match="there is no mse here"):
        verify(model, only, max_mse_ratio=2)


def largest_weight(data: bytearray) -> int:
    """Return the position of the largest weight in the largest buffer of a TFLite file."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    values = max((b.DataAsNumpy() for b in buffers if b.DataLength()), key=len).view(np.float32)
    return bytes(data).find(values.tobytes()) + 4 * int(np.abs(values).argmax())


def test_accuracy_may_not_drop_further_than_allowed(verifying: Callable[..., Any], files: Any, run: Any) -> None:
    loose = Tolerances(float32=Bounds(max_diff=1e6))
    broken = with_other_weights(files["onnx", "float32"])
    drop = run(verifying(("onnx", "float32"), broken, tolerances=loose)).metrics["accuracy_drop_reference"]
    assert drop > 0.05
    run(verifying(("onnx", "float32"), broken, tolerances=loose, max_accuracy_drop=drop))
    with pytest.raises(PostconditionError, match=f"accuracy is {drop:.4f} below the reference's, 0.0100 is allowed"):
        run(verifying(("onnx", "float32"), broken, tolerances=loose, max_accuracy_drop=0.01))


def test_parity_is_told_on_some_samples_and_accuracy_on_all(
    verifying: Callable[..., Any], files: Any, run: Any
) -> None:
    pair = ("onnx", "int8")
    few, all_of_them = run(verifying(pair, files[pair], samples=5)), run(verifying(pair, files[pair]))
    parity = few.outputs[0].facts.rows[0]
    assert parity.samples == 5
    assert parity.worst_sample in (0, 15, 31, 47, 63)
    assert parity.max_abs_diff <= all_of_them.metrics["max_abs_diff"]
    assert few.metrics["accuracy"] == all_of_them.metrics["accuracy"]


def test_the_worst_sample_is_the_one_that_differs_most(
    verifying: Callable[..., Any], files: Any, tiny_xception: Any, tiny_images: Any, run: Any
) -> None:
    pair = ("onnx", "int8")
    parity = run(verifying(pair, files[pair])).outputs[0].facts.rows[0]
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    differences = np.abs(load_onnx(files[pair]).run({"image": tiny_images})["head"] - expected).max(axis=1)
    assert parity.worst_sample == differences.argmax()
    assert parity.max_abs_diff == pytest.approx(differences.max(), rel=1e-4)
    assert parity.reference_max_abs == pytest.approx(np.abs(expected).max(), rel=1e-5)


@pytest.fixture(scope="module")
def regressor() -> Any:
    """Build two inputs, one of integers, and two outputs in one tensor."""
    keras = import_keras()
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b", dtype="int32")
    words = keras.layers.Flatten(name="flat")(keras.layers.Embedding(5, 1, name="words")(b))
    joined = keras.layers.Concatenate(name="join")([a, words])
    model = keras.Model([a, b], keras.layers.Dense(2, name="y")(joined), name="regressor")
    rng = np.random.default_rng(0)
    model.set_weights([rng.standard_normal(w.shape).astype(np.float32) for w in model.weights])
    return model


@pytest.fixture
def regressing(
    make_context: Callable[..., Any], make_split: Callable[..., Any], regressor: Any, export_artifact: Any
) -> Callable[..., Any]:
    rng = np.random.default_rng(1)
    x = {"b": rng.integers(0, 5, (40, 2)), "a": rng.standard_normal((40, 3)).astype(np.float32)}
    targets = np.asarray(regressor([x["a"], x["b"]])) + np.array([1.0, -2.0], np.float32)

    def make(pair: tuple[str, str], data: bytes, **settings: Any) -> Any:
        context = make_context(VerifyConfig(**settings), axis="/".join(pair))
        context.splits = {"test": replace(make_split("test", None, targets, task="regression"), x=x)}
        context.inputs = {
            "export": export_artifact(context, pair, data),
            "reference": context.write_model(regressor),
        }
        return context

    return make


@pytest.mark.parametrize("fmt", ["tflite", "onnx"])
def test_regression_is_compared_by_its_error(
    regressing: Callable[..., Any], regressor: Any, fmt: str, run: Any
) -> None:
    data = (convert_tflite if fmt == "tflite" else convert_onnx)(regressor, "float32")
    result = run(regressing((fmt, "float32"), data, max_mse_ratio=1.001))
    assert result.metrics["mse"] == pytest.approx(2.5, rel=1e-4)
    assert result.metrics["mse_ratio_reference"] == pytest.approx(1, rel=1e-4)
    assert "accuracy" not in result.metrics
    assert "top1_agreement" not in result.metrics
    with pytest.raises(PostconditionError, match="there is no accuracy here"):
        run(regressing((fmt, "float32"), data, max_accuracy_drop=0.1))


@pytest.mark.parametrize("fmt", ["tflite", "onnx"])
def test_int8_of_several_inputs_is_calibrated_for_each(
    regressing: Callable[..., Any], regressor: Any, fmt: str, run: Any
) -> None:
    rng = np.random.default_rng(1)
    words, numbers = rng.integers(0, 5, (40, 2)), rng.standard_normal((40, 3)).astype(np.float32)
    calibration = [numbers, words.astype(np.float32)]
    if fmt == "tflite":
        data = convert_tflite(regressor, "int8", calibration=calibration)
    else:
        data = convert_onnx(regressor, "int8", calibration=calibration)
    result = run(regressing((fmt, "int8"), data, max_mse_ratio=1.2))
    assert result.metrics["cosine"] > 0.99
    assert result.metrics["mse"] == pytest.approx(2.5, rel=0.2)


def test_the_error_may_not_grow_further_than_allowed(regressing: Callable[..., Any], regressor: Any, run: Any) -> None:
    other = copy_model(regressor)
    kernel, bias = other.get_layer("y").get_weights()
    other.get_layer("y").set_weights([kernel, bias - np.array([1.0, 0.0], np.float32)])
    loose = Tolerances(float32=Bounds(max_diff=1e6))
    data = convert_onnx(other, "float32")
    result = run(regressing(("onnx", "float32"), data, tolerances=loose, max_mse_ratio=1.7))
    assert result.metrics["mse_ratio_reference"] == pytest.approx(4 / 2.5, rel=1e-4)
    with pytest.raises(PostconditionError, match=r"the mse is 1\.6 of the reference's, 1\.5 is allowed"):
        run(regressing(("onnx", "float32"), data, tolerances=loose, max_mse_ratio=1.5))


def test_metrics_are_those_of_the_recipe_and_what_is_bounded(
    verifying: Callable[..., Any], files: Any, run: Any
) -> None:
    pair = ("onnx", "float32")
    result = run(verifying(pair, files[pair], metrics=("top_2", "macro_f1", "confusion_matrix")))
    assert {"accuracy", "top_2", "macro_f1"} <= result.metrics.keys()
    assert result.metrics["top_2"] >= result.metrics["accuracy"] == 0.75
    assert [file.name for file in result.outputs[1].files] == ["confusion-matrix.json"]


def test_a_model_of_two_files_has_the_figures_of_one(
    verifying: Callable[..., Any], files: Any, run: Any, tiny_xception: Any, monkeypatch: Any, tmp_path: Any
) -> None:
    pair = ("onnx", "float32")
    expected = run(verifying(pair, files[pair]))
    monkeypatch.setattr("stages.keras.serving.MOST_BYTES", 1000)
    context = verifying(pair, convert_onnx(tiny_xception, "float32", beside=tmp_path / DATA_FILE))
    export = context.inputs["export"]
    data = context.write(DATA_FILE, (tmp_path / DATA_FILE).read_bytes(), "application/octet-stream")
    context.inputs["export"] = export.model_copy(update={"files": (*export.files, data)})
    result = run(context)
    assert result.metrics == expected.metrics
    assert result.outputs[0].facts == expected.outputs[0].facts
    flipped = bytearray((tmp_path / DATA_FILE).read_bytes())
    flipped[3::4] = bytes(byte ^ 0x80 for byte in flipped[3::4])  # the sign of each number
    wrong = context.write(DATA_FILE, bytes(flipped), "application/octet-stream")
    context.inputs["export"] = export.model_copy(update={"files": (*export.files, wrong)})
    with pytest.raises(PostconditionError, match="the first layer that differs is 'stem"):
        run(context)
    context.inputs["export"] = export.model_copy(update={"files": (*export.files, data, data)})
    with pytest.raises(PreconditionError, match="3 files can't be verified as onnx-model"):
        run(context)
