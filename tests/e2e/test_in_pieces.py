"""Check that equal inputs give equal files: however a recipe is split into processes, all digests are the same."""

import pytest

STAGES = ("load", "prune", "finetune", "quantize", "export", "verify")


def digests(manifest):
    """Return the digests of all outputs by action, except times and what only they are compared with."""
    return {
        entry["id"]: [output["digest"] for output in entry["outputs"]]
        for entry in manifest["stages"]
        if entry["stage"] != "benchmark" and not entry["id"].startswith("baseline")
    }


@pytest.mark.slow
def test_each_stage_in_a_process_of_its_own_gives_the_digests_of_one_go(finished, secateur, tmp_path):
    recipe, _, manifest = finished
    made = {}
    for stage in STAGES:
        code, part, err = secateur("run", recipe, "--store", tmp_path, "--until", stage, "--json")
        assert code == 0, err
        assert sum(entry["status"] != "hit" for entry in part["stages"]) > 0
        made |= digests(part)
    assert made == digests(manifest)
    assert len(made) > len(STAGES)


@pytest.mark.slow
def test_two_goes_in_one_process_give_the_digests_of_one_go(finished, tmp_path):
    from pipeline import Recipe, run

    recipe, _, manifest = finished
    run(Recipe.load(recipe), store=tmp_path, until="finetune")
    second = run(Recipe.load(recipe), store=tmp_path, until="verify")
    assert digests(second.model_dump(mode="json")) == digests(manifest)
