from __future__ import annotations

import pytest

from pipeline.errors import RecipeError
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import CalibrationFacts
from pipeline.records.manifest import Output
from pipeline.store import Store
from stages.commands.comparing.operands import _stored


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


def test_a_stored_file_is_leased_for_as_long_as_it_may_be_measured(tmp_path):
    store = Store(tmp_path / "store")
    store.create()
    digest = store.blobs.put(b"model")
    file = FileRef(name="model.tflite", digest=digest, size=5, media_type="x/y")
    output = Output.of(Artifact(files=(file,), facts=CalibrationFacts(samples=1)))
    assert _stored("tflite/int8", output, store, {}, None).path.read_bytes() == b"model"
    assert list(store.leases.live().values()) == [{digest}]
