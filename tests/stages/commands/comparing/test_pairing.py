from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.records.manifest import RunManifest
from stages.commands.comparing.operands import Model, Operand
from stages.commands.comparing.pairing import pairs_of

RUN = RunManifest(
    run_id="3f2a", name="demo", recipe_digest="sha256:" + "1" * 64, stages=(), metrics={}, gates=(), verdict="pass"
)


def model(label: str) -> Model:
    kind = "onnx-model" if "onnx" in label else "tflite-model"
    return Model(label, kind, Path(label), "sha256:" + "0" * 64)


def operand(name: str, *labels: str, run: bool = True) -> Operand:
    return Operand(name, tuple(map(model, labels)), RUN if run else None)


def test_exports_of_two_runs_are_paired_by_name_and_the_rest_is_told():
    base = operand("a", "tflite/float32", "tflite/int8", "onnx/int8")
    pairs, unpaired = pairs_of(base, operand("b", "tflite/int8", "tflite/float32", "onnx/float32"))
    assert [pair.name for pair in pairs] == ["tflite/float32", "tflite/int8"]
    assert all(pair.baseline.label == pair.candidate.label for pair in pairs)
    assert unpaired == ["onnx/int8: only in a", "onnx/float32: only in b"]


def test_one_of_each_is_a_pair_whatever_they_are_called():
    pairs, _ = pairs_of(operand("a:tflite/float32", "tflite/float32"), operand("x", "new.tflite", run=False))
    assert [(pair.baseline.label, pair.candidate.label, pair.name) for pair in pairs] == [
        ("tflite/float32", "new.tflite", "new.tflite")
    ]


def test_a_file_goes_with_the_only_export_of_its_format():
    run, file = operand("a", "tflite/int8", "onnx/int8"), operand("x", "new.onnx", run=False)
    for base, candidate in ((run, file), (file, run)):
        ((pair,), _) = pairs_of(base, candidate)
        assert {pair.baseline.label, pair.candidate.label} == {"onnx/int8", "new.onnx"}
        assert pair.candidate.label == candidate.models[-1].label
    with pytest.raises(RecipeError, match="can be compared with one") as caught:
        pairs_of(operand("a", "tflite/int8", "tflite/float32"), operand("x", "new.tflite", run=False))
    assert caught.value.hint == "name one of a:tflite/int8, a:tflite/float32"


def test_formats_are_not_compared_and_nothing_in_common_is_refused():
    with pytest.raises(RecipeError, match="onnx/int8 can't be compared: tflite and onnx"):
        pairs_of(operand("a", "tflite/int8"), operand("b", "onnx/int8"))
    with pytest.raises(RecipeError, match="no export in common"):
        pairs_of(operand("a", "tflite/int8", "tflite/float32"), operand("b", "onnx/int8", "onnx/float32"))
