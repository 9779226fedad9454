import json

import pytest

from pipeline.errors import RecipeError
from pipeline.store import Store


def test_files_are_copied_under_the_names_of_their_exports(finished, call, tmp_path):
    _, store, manifest = finished
    document = json.loads(call("export", manifest.run_id, tmp_path / "out", "--store", store, "--json"))
    names = ["tflite/float32/model.tflite", "keras/float32/model.keras", "manifest.json"]
    assert sorted(document["files"]) == sorted(names)
    export = next(entry for entry in manifest.stages if entry.id == "export:tflite/float32")
    blob = Store(store).blobs.path(export.outputs[0].files[0].digest)
    assert (tmp_path / "out" / names[0]).read_bytes() == blob.read_bytes()


def test_a_run_that_is_not_there_is_named(finished, call, tmp_path):
    with pytest.raises(RecipeError, match="no run is called 'ffffffff'"):
        call("export", "ffffffff", tmp_path / "out", "--store", finished[1])
    assert not (tmp_path / "out").exists()
