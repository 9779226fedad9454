from __future__ import annotations

import pytest

from pipeline.errors import RecipeError
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import EvaluationFacts
from pipeline.records.manifest import Action, ActionRecord, Provenance
from pipeline.store import Store
from stages.commands.comparing.operands import find_operand
from stages.formats.onnx.facts import ONNXFacts


def test_what_is_not_there_comes_with_the_nearest_names(files, tmp_path, run):
    few, _ = files
    with pytest.raises(RecipeError, match="is not a file, a run or an artifact") as caught:
        run("compare", few, few.with_name("fev.onnx"), "--store", tmp_path / "store")
    assert str(few) in caught.value.hint
    with pytest.raises(RecipeError, match="is not a file, a run or an artifact") as caught:
        run("compare", "latest", few, "--store", tmp_path / "store")
    assert caught.value.hint == f"secateur store ls --store {tmp_path / 'store'}   lists runs and artifacts"
    with pytest.raises(RecipeError, match="a folder is not a model"):
        run("compare", few, tmp_path)


def recorded(store, stage, inputs, artifact, metrics):
    action = Action(
        stage=stage,
        version=1,
        axis="onnx/int8",
        config={},
        inputs=inputs,
        packages={},
        seed=None,
        threads=None,
        device=None,
    )
    record = ActionRecord.sealed(
        key=action.key,
        action=action,
        outputs=(artifact,),
        metrics=metrics,
        intervals={},
        children=(),
        wall_s=0.1,
        provenance=Provenance(run_id="0", finished_at="2026-11-22T00:00:00", host="h", secateur="0"),
    )
    store.records.put(record)
    return store.records.path(record.key)


def test_an_accuracy_is_taken_from_a_record_that_is_whole_also_where_nothing_can_be_moved_away(tmp_path, onnx_file):
    store = Store(tmp_path / "store")
    store.create()
    data = onnx_file.read_bytes()
    file = FileRef(name="model.onnx", digest=store.blobs.put(data), size=len(data), media_type="x")
    facts = ONNXFacts(scheme="int8", inputs=(), outputs=(), operators={}, opset=17, ir_version=8)
    export = Artifact(files=(file,), facts=facts)
    recorded(store, "export", {}, export, {})
    test = "sha256:" + "7" * 64
    found = Artifact(files=(), facts=EvaluationFacts(samples=10, metrics={}))
    path = recorded(store, "verify", {"export": export.digest, "test": test}, found, {"accuracy": 0.5})
    (model,) = find_operand(export.digest, lambda: store).models
    assert (model.quality, model.tested_on) == ({"accuracy": 0.5}, test)
    path.write_text(path.read_text().replace('"accuracy": 0.5', '"accuracy": 0.9'))
    (store.root / "quarantine").write_text("a file, so that nothing can be moved here: what a read-only store is like")
    (model,) = find_operand(export.digest, lambda: store).models
    assert path.is_file()
    assert (model.quality, model.tested_on) == ({}, None)
