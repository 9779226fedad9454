import json

import pytest

from pipeline.errors import RecipeError


@pytest.mark.parametrize(("most", "code", "verdict"), [(100000, 0, "pass"), (1, 1, "fail")])
def test_the_exit_code_is_the_verdict_and_stdout_the_manifest(finished, call, most, code, verdict):
    recipe, store, _ = finished
    arguments = ("run", recipe, "--store", store, "--set", f"gates.0.max={most}", "--json")
    manifest = json.loads(call(*arguments, code=code))
    assert manifest["verdict"] == verdict
    assert {entry["status"] for entry in manifest["stages"]} == {"hit"}


def test_without_json_the_run_ends_with_its_table(finished, call):
    recipe, store, _ = finished
    lines = call("run", recipe, "--store", store).splitlines()
    assert any(line.startswith("tflite/float32") for line in lines)
    assert any("tflite/float32.size_bytes" in line for line in lines)


def test_nothing_runs_of_a_recipe_that_is_wrong(finished, call, tmp_path):
    with pytest.raises(RecipeError, match="raito"):
        call("run", finished[0], "--store", tmp_path / "store", "--set", "stages.strip.raito=1")
    assert not (tmp_path / "store").exists()
