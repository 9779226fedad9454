import json


def test_each_action_is_a_line_with_its_reason(recipe_file, call, tmp_path):
    lines = call("plan", recipe_file(), "--store", tmp_path / "store", "--until", "prune").splitlines()
    assert [line.split() for line in lines] == [
        ["load", "run", "first", "run"],
        ["evaluate:source", "run", "follows", "load"],
        ["prune", "run", "follows", "load"],
        ["evaluate:prune", "run", "follows", "load"],
    ]


def test_overrides_reach_the_plan_and_hits_have_no_reason(finished, call):
    recipe, store, _ = finished
    assert {line.split()[1] for line in call("plan", recipe, "--store", store).splitlines()} == {"hit"}
    changed = call("plan", recipe, "--store", store, "--set", "stages.quantize.schemes=[float32, float16]", "--json")
    status = {action["id"]: action["status"] for action in json.loads(changed)["actions"]}
    assert (status["strip"], status["quantize:float16"]) == ("hit", "run")
