import json

import pytest

from pipeline.errors import RecipeError


def test_a_run_is_shown_with_what_it_made(finished, call):
    _, store, manifest = finished
    text = call("show", manifest.run_id, "--store", store)
    assert text.startswith(f"run {manifest.run_id} of short\n")
    assert all(entry.id in text for entry in manifest.stages)
    assert json.loads(call("show", manifest.run_id[:4], "--store", store, "--json"))["run_id"] == manifest.run_id


def test_why_a_stage_ran_is_told_with_what_it_depends_on(finished, call):
    text = call("show", finished[2].run_id, "--why", "quantize:float32", "--store", finished[1])
    assert "status    ran" in text
    assert '"float32"' in text
    with pytest.raises(RecipeError, match="no action 'quantise'") as caught:
        call("show", finished[2].run_id, "--why", "quantise", "--store", finished[1])
    assert "quantize" in caught.value.hint


def test_an_artifact_is_followed_to_the_model_file(finished, call):
    _, store, manifest = finished
    export = next(entry for entry in manifest.stages if entry.id == "export:tflite/float32")
    lineage = json.loads(call("show", export.outputs[0].digest[:20], "--store", store, "--json"))["lineage"]
    assert [step["stage"] for step in lineage] == ["export", "quantize", "load"]
    assert [step["depth"] for step in lineage] == [0, 1, 2]
    with pytest.raises(RecipeError, match="no run and no artifact is called 'ffffffff'"):
        call("show", "ffffffff", "--store", store)


def test_without_verified_exports_there_is_no_parity_to_show(finished, call):
    with pytest.raises(RecipeError, match="no verified exports"):
        call("show", finished[2].run_id, "--parity", "--store", finished[1])
