import shutil

import pytest

from pipeline import Recipe, run
from pipeline.errors import StoreError
from pipeline.running.run import _let_go
from pipeline.store import Store, file_digests


def test_all_of_a_run_is_there_the_second_time_and_what_is_forced_runs(finished):
    recipe, store, manifest = finished
    assert {entry.status for entry in manifest.stages} == {"ran"}
    again = run(Recipe.load(recipe), store, force_from="quantize")
    statuses = {entry.id: entry.status for entry in again.stages}
    assert statuses == {"load": "hit", "strip": "hit", "quantize:float32": "ran", "export:tflite/float32": "ran"}
    assert (again.metrics, again.verdict) == (manifest.metrics, "pass")


def test_an_error_that_is_its_own_cause_is_let_go():
    error = ValueError("of outside software")
    error.__cause__ = error
    _let_go(error)
    assert error.__traceback__ is None


def test_a_run_whose_digests_can_not_be_remembered_is_written_all_the_same(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(file_digests, "SETTLED_NS", 0)  # files this young are not remembered otherwise
    path, store, _ = finished
    shutil.copytree(path.parent, tmp_path / "copy")
    digests = tmp_path / "copy" / store.name / "file-digests.json"
    digests.unlink(missing_ok=True)
    (digests / "in the way").mkdir(parents=True)
    with pytest.raises(StoreError) as caught:
        run(Recipe.load(tmp_path / "copy" / path.name), digests.parent)
    assert {entry.status for entry in caught.value.manifest.stages} <= {"hit", "ran"}
    assert Store(digests.parent).runs.get(caught.value.manifest.run_id) == caught.value.manifest
