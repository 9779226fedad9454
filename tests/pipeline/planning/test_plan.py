"""Make plans for a store whose records are written by hand: no stage runs here (tests/e2e has those)."""

import pytest

from pipeline.errors import RecipeError
from pipeline.planning import plan as planning
from pipeline.planning.plan import make_action, make_plan, resolve
from pipeline.planning.wiring import build_chain
from pipeline.recipe.recipe import Recipe
from pipeline.system.installed import package_version

DONE = ("load", "prune", "finetune")


def test_an_empty_store_runs_everything_from_the_first(recipe_file, store, plan):
    found = plan(recipe_file, store)
    assert found["load"].reason == "first run"
    assert found["load"].key is not None
    assert found["prune"].reason == "follows load"
    assert found["prune"].key is None
    assert {action.status for action in found.values()} == {"run"}


def test_what_is_recorded_is_a_hit(recipe_file, store, record_first, plan):
    record_first(Recipe.load(recipe_file()), store, DONE)
    found = plan(recipe_file, store)
    assert [found[name].status for name in DONE] == ["hit"] * 3
    assert found["strip"].reason == "first run"


@pytest.mark.parametrize(
    ("package", "missing"),
    [
        ("tf2onnx", {"export:onnx/float32", "export:onnx/int8", "baseline:onnx"}),
        ("ai-edge-quantizer", {"export:tflite/float32", "export:tflite/int8", "baseline:tflite"}),
        ("ethos-u-vela", set()),
        ("tflite-micro", set()),
    ],
)
def test_a_package_of_one_format_is_in_no_key_of_another(recipe_file, store, monkeypatch, package, missing):
    recipe = Recipe.load(recipe_file())
    actions = {node.id: node for node in build_chain(recipe).nodes if node.stage in ("export", "verify", "benchmark")}

    def keys():
        return {name: make_action(n.stage, n.config, n.axis, {}, recipe).key for name, n in actions.items()}

    before = keys()
    monkeypatch.setattr(planning, "package_version", lambda name: "99" if name == package else package_version(name))
    assert {name for name, key in keys().items() if key != before[name]} == missing


def test_scratch_of_a_killed_run_is_resumed(recipe_file, store, record_first, plan):
    record_first(Recipe.load(recipe_file()), store, ("load", "prune"))
    key = plan(recipe_file, store)["finetune"].key
    (store.create_work_dir(key) / "epoch-00001.json").write_text("{}")
    assert plan(recipe_file, store)["finetune"].status == "resume"
    assert plan(recipe_file, store, "stages.finetune.epochs=2")["finetune"].status == "run"


def test_until_and_force_from(recipe_file, store, record_first, plan):
    record_first(Recipe.load(recipe_file()), store, DONE)
    found = plan(recipe_file, store, until="prune")
    assert list(found) == ["load", "evaluate:source", "prune", "evaluate:prune"]
    for stage in ("quantize", "export", "verify"):
        assert not [name for name in plan(recipe_file, store, until=stage) if name.startswith("baseline")]
    found = plan(recipe_file, store, force_from="prune")
    assert (found["load"].status, found["prune"].reason, found["finetune"].reason) == ("hit", "forced", "follows prune")
    assert found["control"].reason != "forced"
    with pytest.raises(RecipeError) as caught:
        plan(recipe_file, store, until="prun")
    assert "prune" in caught.value.hint


def test_the_name_of_a_recipe_and_its_folder_are_in_no_key(recipe_file, store, tmp_path, record_first):
    record_first(Recipe.load(recipe_file()), store, DONE)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("model.keras", "data.npz"):
        (tmp_path / name).rename(moved / name)
    (moved / "other.yaml").write_text(recipe_file().read_text().replace("name: small", "name: other"))
    found = {a.id: a for a in make_plan(Recipe.load(moved / "other.yaml"), store).actions}
    assert [found[name].status for name in DONE] == ["hit"] * 3


def test_a_ladder_s_target_is_looked_for_before_anything_runs_and_is_in_its_key(recipe_file, store):
    export = ("{formats: [tflite, onnx]}", "{formats: [tflite]}")
    gate = ("tflite/int8.accuracy_drop", "strip.accuracy_drop")

    def written(target):
        ladder = f"{{ladder: [int8], max_accuracy_drop: 0.01, ladder_target: {target}}}"
        return Recipe.load(recipe_file(replace=[("{schemes: [float32, int8]}", ladder), export, gate]))

    with pytest.raises(RecipeError, match="no target 'cortex-a99'"):
        make_plan(written("cortex-a99"), store)
    node = next(node for node in build_chain(written("cpu")).nodes if node.id == "quantize:ladder")
    assert make_action("quantize", node.config, "ladder", {}, written("cpu")).device
    plain = {"schemes": ("int8",)}
    config = node.config.model_validate(plain)
    assert make_action("quantize", config, "int8", {}, written("cpu")).device is None


def test_a_file_in_the_place_of_a_built_in_target_is_remarked_and_a_recipe_is_none(recipe_file, store, tmp_path):
    (tmp_path / "cpu.yaml").write_text("name: a recipe\n")
    assert resolve(Recipe.load(recipe_file()), store).remarks == ()
    (tmp_path / "cpu.yaml").write_text("kind: cpu\n")
    (remark,) = resolve(Recipe.load(recipe_file()), store).remarks
    assert remark.startswith(f"target cpu is {tmp_path / 'cpu.yaml'}, not the built-in one")
    on = ("{ratio: 0.5}", "{latency: 0.5, measure_on: {target: cpu}}")
    unmeasured = ("  - benchmark\n", "")
    assert resolve(Recipe.load(recipe_file(replace=[on, unmeasured])), store).remarks == (remark,)


def test_files_that_are_not_there_are_named_before_anything_runs(recipe_file, store, tmp_path):
    path = recipe_file()
    (tmp_path / "model.keras").unlink()
    with pytest.raises(RecipeError, match="not there") as caught:
        make_plan(Recipe.load(path), store)
    assert "recipe.yaml:3:1   model" in caught.value.where
    (tmp_path / "data.npz").unlink()
    (tmp_path / "model.keras").touch()
    with pytest.raises(RecipeError, match=r"data\.path") as caught:
        make_plan(Recipe.load(path), store)
    assert "recipe.yaml:6:3   data.path" in caught.value.where


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("  - verify\n", "  - verify\n  - benchmark: {targets: [cpu, cortx-a72]}\n", "benchmark.targets[1]"),
        ("ratio: 0.5", "macs: 0.5, round_to: auto, measure_on: {target: cortx-a72}", "prune.measure_on.target"),
    ],
)
def test_an_unknown_target_is_placed_at_its_key(recipe_file, store, old, new, key):
    with pytest.raises(RecipeError, match="there is no target 'cortx-a72'") as caught:
        make_plan(Recipe.load(recipe_file(replace=[(old, new)])), store)
    assert caught.value.where.endswith(key)
    assert "cortex-a72" in caught.value.hint
