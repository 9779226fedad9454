import json
import shutil

import pytest
from typer.testing import CliRunner

from pipeline import Recipe, run
from pipeline.cli import build_app
from pipeline.errors import RecipeError, StoreError
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


def test_files_that_this_run_does_not_deliver_stay_and_are_named(finished, tmp_path):
    recipe, store, _ = finished
    copy = shutil.copytree(recipe.parent, tmp_path / "copy")  # other tests count what is in the store
    out, app, store = tmp_path / "out", build_app(["export"]), copy / store.name
    second = copy / "second.yaml"
    second.write_text(recipe.read_text().replace("float32", "float16"))
    floats = run(Recipe.load(second), store)
    for _ in range(2):  # the second time the folder holds the same run
        result = CliRunner().invoke(app, ["export", floats.run_id, str(out), "--store", str(store)])
        assert (result.exit_code, result.stderr) == (0, "")
    (out / "notes.txt").write_text("beside the folders of formats: not ours")
    left = "tflite/float16/model.tflite"
    for _ in range(2):  # the second time the manifest is this run's own, and the file as foreign as before
        arguments = ["export", finished[2].run_id, str(out), "--store", str(store), "--json"]
        result = CliRunner().invoke(app, arguments)
        assert result.stderr == f"! {out}/ still has files that this run does not deliver: {left}\n"
        assert json.loads(result.stdout)["left_from_before"] == [left]
        assert (out / left).is_file()
        assert (out / "tflite/float32/model.tflite").is_file()
        assert json.loads((out / "manifest.json").read_text())["run_id"] == finished[2].run_id


def test_a_manifest_that_is_none_of_ours_is_replaced(finished, call, tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    document = json.loads(call("export", finished[2].run_id, tmp_path, "--store", finished[1], "--json"))
    assert document["left_from_before"] == []
    assert json.loads((tmp_path / "manifest.json").read_text())["run_id"] == finished[2].run_id


@pytest.mark.parametrize("axis", ["../../x/y", "{folder}/x", "in\0t/8"])
def test_nothing_is_written_outside_the_folder_whatever_the_manifest_says(finished, call, tmp_path, axis):
    store = Store(shutil.copytree(finished[1], tmp_path / "store"))
    axis = axis.format(folder=tmp_path / "elsewhere")
    stages = [
        entry.model_copy(update={"axis": axis}) if entry.axis and entry.stage == "export" else entry
        for entry in finished[2].stages
    ]
    store.runs.put(finished[2].model_copy(update={"stages": tuple(stages)}))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError, match="names a file that is not FORMAT/SCHEME/name"):
        call("export", finished[2].run_id, tmp_path / "out" / "deeper", "--store", store.root)
    assert sorted(tmp_path.iterdir()) == before
