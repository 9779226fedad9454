"""Make plans for a store whose records are written by hand: no stage runs here (tests/e2e has those)."""

import json

import pytest

from pipeline.contracts.events import INTERRUPTED
from pipeline.errors import RecipeError
from pipeline.planning import plan as planning
from pipeline.planning.cache_misses import differences
from pipeline.planning.plan import make_action, make_plan, resolve
from pipeline.planning.wiring import build_chain
from pipeline.recipe.recipe import Recipe
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import KerasFacts
from pipeline.records.manifest import ActionRecord, Provenance, RunManifest
from pipeline.store import Store
from pipeline.system.installed import package_version


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "store")
    opened.create()
    return opened


def record_first(recipe, store, names):
    """Record these nodes as done, each with a separate output."""
    resolution = resolve(recipe, store)
    for node in resolution.chain.nodes:
        if node.id not in names:
            continue
        action = resolution.action(node)
        data = action.key.encode()
        file = FileRef(name="model.keras", digest=store.blobs.put(data), size=len(data), media_type="x")
        facts = KerasFacts(params=1, macs=1, inputs=(), outputs=(), sparsity=0.0)
        record = ActionRecord.sealed(
            key=action.key,
            action=action,
            outputs=(Artifact(files=(file,), facts=facts),),
            metrics={},
            intervals={},
            children=(),
            wall_s=0.0,
            provenance=Provenance(run_id="0", finished_at="2026-11-22T00:00:00", host="h", secateur="0"),
        )
        store.records.put(record)
        resolution.results[node.id] = record


def record_run(recipe, store, entries=(), run_id="0"):
    """Return a run of the recipe in which all that is recorded was done, with details in `entries`."""
    stages = [
        {"id": "a", "stage": "a", "axis": None, "key": key, "status": "ran", "reason": "", "wall_s": 0.0}
        for key in store.records.keys()  # noqa: SIM118 - no dict
    ]
    stages += [{"wall_s": 0.0, **entry} for entry in entries]
    head = {"run_id": run_id, "name": recipe.name, "recipe_digest": recipe.digest, "stages": stages}
    store.runs.put(RunManifest.model_validate_json(json.dumps({**head, "metrics": {}, "gates": [], "verdict": "pass"})))


def plan(recipe_file, store, *overrides, **options):
    return {a.id: a for a in make_plan(Recipe.load(recipe_file(), overrides), store, **options).actions}


DONE = ("load", "prune", "finetune")


def test_an_empty_store_runs_everything_from_the_first(recipe_file, store):
    found = plan(recipe_file, store)
    assert found["load"].reason == "first run"
    assert found["load"].key is not None
    assert found["prune"].reason == "follows load"
    assert found["prune"].key is None
    assert {action.status for action in found.values()} == {"run"}


def test_what_is_recorded_is_a_hit(recipe_file, store):
    record_first(Recipe.load(recipe_file()), store, DONE)
    found = plan(recipe_file, store)
    assert [found[name].status for name in DONE] == ["hit"] * 3
    assert found["strip"].reason == "first run"


@pytest.mark.parametrize(
    ("override", "first", "reason"),
    [
        ("stages.prune.ratio=0.3", "prune", "prune.ratio 0.5 → 0.3"),
        ("stages.finetune.epochs=2", "finetune", "finetune.epochs 1 → 2"),
        ("stages.finetune.plateau.patience=9", "finetune", "finetune.plateau.patience 3 → 9"),
        ("data.preprocess.scale=0.5", "finetune", "input train changed (+1 more)"),
        ("seed=4", "load", "seed 3 → 4"),
    ],
)
def test_a_changed_setting_is_the_reason_and_the_rest_follows(recipe_file, store, override, first, reason):
    record_first(Recipe.load(recipe_file()), store, DONE)
    found = plan(recipe_file, store, override)
    misses = [action for action in found.values() if action.status != "hit" and action.id in DONE]
    assert (misses[0].id, misses[0].reason) == (first, reason)
    assert all(action.reason == f"follows {first}" for action in misses[1:])


def test_a_changed_model_file_is_the_reason(recipe_file, store, tmp_path):
    path = recipe_file()
    record_first(Recipe.load(path), store, DONE)
    record_run(Recipe.load(path), store)
    (tmp_path / "model.keras").write_bytes(b"other bytes")
    found = {a.id: a for a in make_plan(Recipe.load(path), store).actions}
    assert found["load"].reason == "input file changed"


@pytest.mark.parametrize(("name", "reason"), [("small", "input file changed"), ("mall", "first run")])
def test_another_recipe_s_records_for_another_model_are_no_reason(recipe_file, store, tmp_path, name, reason):
    record_first(Recipe.load(recipe_file()), store, DONE)
    record_run(Recipe.load(recipe_file()), store)
    (tmp_path / "model.keras").write_bytes(b"another model")
    path = recipe_file(replace=[("name: small", f"name: {name}"), ("ratio: 0.5", "ratio: 0.37")])
    found = {a.id: a for a in make_plan(Recipe.load(path), Store(store.root)).actions}
    assert (found["load"].reason, found["prune"].reason) == (reason, "follows load")


@pytest.mark.parametrize(("killed", "reason"), [(True, "prune.ratio 0.5 → 0.37"), (False, "first run")])
def test_for_the_same_model_a_killed_run_is_compared_and_another_recipe_is_not(recipe_file, store, killed, reason):
    record_first(Recipe.load(recipe_file()), store, DONE)
    if not killed:
        record_run(Recipe.load(recipe_file()), store)
    path = recipe_file(replace=[("name: small", "name: other"), ("ratio: 0.5", "ratio: 0.37")])
    found = {a.id: a for a in make_plan(Recipe.load(path), Store(store.root)).actions}
    assert (found["load"].status, found["prune"].reason) == ("hit", reason)


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        ("failed", "the loss is NaN\n  where: strip\n  lower it", "failed last time: the loss is NaN"),
        ("failed", "x" * 200, f"failed last time: {'x' * 81}…"),
        ("failed", INTERRUPTED, "interrupted last time"),
        ("skipped", "left out: no kernel", "left out: no kernel"),
        ("ran", "first run", "first run"),  # its record is gone, and no other is left to compare with
    ],
)
def test_what_became_of_the_same_action_last_time_is_the_reason(recipe_file, store, status, reason, told):
    recipe = Recipe.load(recipe_file())
    record_first(recipe, store, DONE)
    strip = {"id": "strip", "stage": "strip", "axis": None, "key": plan(recipe_file, store)["strip"].key}
    not_begun = {"id": "strip", "status": "skipped", "reason": "load failed", "key": None}
    record_run(recipe, store, [{**strip, "status": status, "reason": reason}])
    record_run(recipe, store, [{**strip, **not_begun}], run_id="1")
    opened = Store(store.root)
    assert plan(recipe_file, opened)["strip"].reason == told
    assert plan(recipe_file, opened, "stages.strip.fold_batch_norm=true")["strip"].reason == "first run"
    record_run(recipe, store, [{**strip, "status": "ran", "reason": ""}], run_id="2")
    assert plan(recipe_file, Store(store.root))["strip"].reason == "first run"


def test_a_damaged_manifest_is_nobody_s(recipe_file, store):
    record_first(Recipe.load(recipe_file()), store, DONE)
    record_run(Recipe.load(recipe_file()), store)
    assert len(store.runs.keys_of("small")) == len(DONE)
    for path in store.root.glob("runs/*/manifest.json"):
        path.write_bytes(path.read_bytes()[:-20])
    assert Store(store.root).runs.keys_of("small") == frozenset()


def test_a_missing_blob_is_the_reason(recipe_file, store):
    record_first(Recipe.load(recipe_file()), store, DONE)
    key = plan(recipe_file, store)["prune"].key
    digest = store.records.get(key).outputs[0].files[0].digest
    store.blobs.path(digest).unlink()
    found = plan(recipe_file, Store(store.root))
    assert found["prune"].reason == f"blob {digest[:11]}… missing"
    assert found["finetune"].reason == "follows prune"
    assert found["load"].status == "hit"


def test_a_new_version_of_a_package_is_the_reason(recipe_file, store):
    record_first(Recipe.load(recipe_file()), store, DONE)
    key = plan(recipe_file, store)["prune"].key
    action = store.records.get(key).action.model_dump(mode="json")
    newer = {**action, "packages": {**action["packages"], "tensorflow": "2.22.0"}}
    assert differences(action, newer) == [f"tensorflow {action['packages']['tensorflow']} → 2.22.0"]


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


def test_scratch_of_a_killed_run_is_resumed(recipe_file, store):
    record_first(Recipe.load(recipe_file()), store, ("load", "prune"))
    key = plan(recipe_file, store)["finetune"].key
    (store.create_work_dir(key) / "epoch-00001.json").write_text("{}")
    assert plan(recipe_file, store)["finetune"].status == "resume"
    assert plan(recipe_file, store, "stages.finetune.epochs=2")["finetune"].status == "run"


def test_until_and_force_from(recipe_file, store):
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


def test_the_name_of_a_recipe_and_its_folder_are_in_no_key(recipe_file, store, tmp_path):
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
