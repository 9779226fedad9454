from __future__ import annotations

import pytest

from pipeline.errors import RecipeError, StoreError
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import EvaluationFacts
from pipeline.records.manifest import Action, ActionRecord, Output, Provenance, RunManifest, StageEntry
from pipeline.store import Store
from stages.commands.comparing.operands import _stored, find_operand
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


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "store")
    opened.create()
    return opened


@pytest.fixture
def export(store, onnx_file):
    data = onnx_file.read_bytes()
    file = FileRef(name="model.onnx", digest=store.blobs.put(data), size=len(data), media_type="x")
    facts = ONNXFacts(scheme="int8", inputs=(), outputs=(), operators={}, opset=17, ir_version=8)
    return Artifact(files=(file,), facts=facts)


def test_nothing_is_judged_by_a_manifest_of_which_one_bit_is_another(store, export, run, onnx_file):
    entry = StageEntry(
        id="export:onnx/int8",
        stage="export",
        axis="onnx/int8",
        key=None,
        status="ran",
        reason="",
        wall_s=0.0,
        outputs=(Output.of(export),),
    )
    store.runs.put(
        RunManifest(
            run_id="aaaa1111",
            name="n",
            recipe_digest="sha256:" + "0" * 64,
            stages=(entry,),
            metrics={"onnx/int8.accuracy": 0.5},
            gates=(),
            verdict="pass",
        )
    )
    (model,) = find_operand("aaaa1111", lambda: store).models
    assert model.quality == {"accuracy": 0.5}
    path = store.root / "runs" / "aaaa1111" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'accuracy": 0.5', b'accuracy": 0.7'))
    with pytest.raises(StoreError, match="the run's manifest is damaged"):
        run("compare", onnx_file, "aaaa1111", "--metric", "accuracy", "--store", store.root)


def test_an_accuracy_is_taken_from_a_record_that_is_whole_also_where_nothing_can_be_moved_away(store, export):
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


def test_a_stored_file_is_leased_for_as_long_as_it_may_be_measured(store, export, onnx_file):
    model = _stored("onnx/int8", Output.of(export), store, {}, None)
    assert model.path.read_bytes() == onnx_file.read_bytes()
    assert list(store.leases.live().values()) == [{export.files[0].digest}]
