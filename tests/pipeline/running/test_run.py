import shutil

import numpy as np
import pytest

from pipeline import Recipe, run
from pipeline.errors import ModelError, RecipeError, StoreError
from pipeline.records.keys import digest_of_file
from pipeline.running.run import _let_go
from pipeline.store import Store, file_digests
from pipeline.store.seals import sealed, unsealed


def test_all_of_a_run_is_there_the_second_time_and_what_is_forced_runs(finished):
    recipe, store, manifest = finished
    assert {entry.status for entry in manifest.stages} == {"ran"}
    again = run(Recipe.load(recipe), store, force_from="quantize")
    statuses = {entry.id: entry.status for entry in again.stages}
    assert statuses == {"load": "hit", "strip": "hit", "quantize:float32": "ran", "export:tflite/float32": "ran"}
    assert (again.metrics, again.verdict) == (manifest.metrics, "pass")


def regression(folder, gates, data="", scale=2.0):
    """Write a recipe of a linear model with labels that are `scale` beside what it computes."""
    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    x = keras.Input((4,), name="x")
    keras.Model(x, keras.layers.Dense(1, name="y", kernel_initializer="zeros")(x)).save(folder / "model.keras")
    samples = {f"x_{name}": np.ones((8, 4), np.float32) for name in ("train", "test")}
    targets = {f"y_{name}": np.full((8, 1), scale, np.float32) for name in ("train", "test")}
    np.savez(folder / "data.npz", **samples, **targets)
    path = folder / "recipe.yaml"
    spec = f"data: {{source: npz, path: data.npz, test: test{data}}}"
    path.write_text(f"name: r\nmodel: model.keras\n{spec}\nstages: [load, strip]\ngates: [{gates}]\n")
    return Recipe.load(path)


def test_a_gate_that_the_data_s_task_rules_out_ends_the_run_after_the_source_s_evaluation(tmp_path):
    recipe = regression(tmp_path, "{metric: strip.accuracy_drop, max: 1}")
    with pytest.raises(
        RecipeError, match="strip will have no 'accuracy_drop': the recipe measures mse and mae"
    ) as caught:
        run(recipe, tmp_path / "store")
    statuses = {entry.id: entry.status for entry in caught.value.manifest.stages}
    assert (statuses["evaluate:source"], statuses["strip"]) == ("ran", "skipped")


def test_a_gate_without_its_metric_fails_beside_those_that_are_judged(tmp_path):
    # The error of a source without one has no ratio.
    gates = "{metric: strip.mse_ratio, max: 2}, {metric: strip.mse, max: 1}"
    manifest = run(
        regression(tmp_path, gates, data=", task: regression, metrics: [mse]", scale=0.0), tmp_path / "store"
    )
    judged = [(gate.metric, gate.value, gate.verdict) for gate in manifest.gates]
    assert judged == [("strip.mse_ratio", None, "fail"), ("strip.mse", 0.0, "pass")]
    assert (manifest.verdict, manifest.chosen_metrics) == ("fail", ("mse",))


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
    (digests.parent / "quarantine").write_text("so that it can't be moved away")
    with pytest.raises(StoreError) as caught:
        run(Recipe.load(tmp_path / "copy" / path.name), digests.parent)
    assert {entry.status for entry in caught.value.manifest.stages} <= {"hit", "ran"}
    assert Store(digests.parent).runs.get(caught.value.manifest.run_id) == caught.value.manifest


def test_a_wrong_digest_in_the_memory_of_files_fails_one_run_and_no_more(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(file_digests, "SETTLED_NS", -(10**12))  # the files are some ms old
    folder = shutil.copytree(finished[0].parent, tmp_path / "copy")
    recipe, memory = Recipe.load(folder / "recipe.yaml"), folder / "store" / "file-digests.json"
    run(recipe, folder / "store")
    digest = digest_of_file(folder / "model.keras")
    memory.write_bytes(memory.read_bytes().replace(digest[:-1].encode(), digest[:-2].encode() + b"?"))
    assert {entry.status for entry in run(recipe, folder / "store").stages} == {"hit"}  # its seal is broken
    document = unsealed(memory.read_bytes())
    assert digest.encode() in document
    memory.write_bytes(sealed(document.replace(digest.encode(), f"sha256:{'0' * 64}".encode())))
    with pytest.raises(ModelError, match="the model file changed during the run"):
        run(recipe, folder / "store")
    assert {entry.status for entry in run(recipe, folder / "store").stages} == {"hit"}


def test_a_run_goes_on_whatever_stands_in_place_of_the_files_of_its_store(finished, tmp_path):
    folder = shutil.copytree(finished[0].parent, tmp_path / "copy")
    recipe, store, entries = Recipe.load(folder / "recipe.yaml"), Store(folder / "store"), finished[2].stages
    _, strip, _, export = entries
    in_the_way = (
        store.root / "VERSION",
        store.records.path(strip.key),
        store.blobs.path(export.outputs[0].files[0].digest),
        store.root / "runs" / finished[2].run_id / "manifest.json",
        *(store.root / "locks" / f"{entry.key}.lock" for entry in entries),
        store.file_digests,
    )
    for path in in_the_way:
        path.unlink(missing_ok=True)
        (path / "inside").mkdir(parents=True)
    for entry in entries:
        store.work_dir(entry.key).write_text("not a folder")
    again = run(recipe, store.root)
    assert [entry.status for entry in again.stages] == ["hit", "ran", "hit", "ran"]
    assert [entry.outputs for entry in again.stages] == [entry.outputs for entry in entries]
    assert [entry.reason for entry in again.stages[1::2]] == [
        "record damaged",
        f"blob {export.outputs[0].files[0].digest[:11]}… missing",
    ]
    assert {entry.status for entry in run(recipe, store.root).stages} == {"hit"}
    assert Store(store.root).runs.problem(finished[2].run_id) == "manifest damaged"
