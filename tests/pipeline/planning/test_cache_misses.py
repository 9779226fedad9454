import json

import pytest

from pipeline.contracts.events import INTERRUPTED
from pipeline.planning.cache_misses import differences
from pipeline.planning.plan import make_plan
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store

DONE = ("load", "prune", "finetune")


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
def test_a_changed_setting_is_the_reason_and_the_rest_follows(
    recipe_file, store, override, first, reason, record_first, plan
):
    record_first(Recipe.load(recipe_file()), store, DONE)
    found = plan(recipe_file, store, override)
    misses = [action for action in found.values() if action.status != "hit" and action.id in DONE]
    assert (misses[0].id, misses[0].reason) == (first, reason)
    assert all(action.reason == f"follows {first}" for action in misses[1:])


def test_a_changed_model_file_is_the_reason(recipe_file, store, tmp_path, record_first, record_run):
    path = recipe_file()
    record_first(Recipe.load(path), store, DONE)
    record_run(Recipe.load(path), store)
    (tmp_path / "model.keras").write_bytes(b"other bytes")
    found = {a.id: a for a in make_plan(Recipe.load(path), store).actions}
    assert found["load"].reason == "input file changed"


@pytest.mark.parametrize(("name", "reason"), [("small", "input file changed"), ("mall", "first run")])
def test_another_recipe_s_records_for_another_model_are_no_reason(
    recipe_file, store, tmp_path, name, reason, record_first, record_run
):
    record_first(Recipe.load(recipe_file()), store, DONE)
    record_run(Recipe.load(recipe_file()), store)
    (tmp_path / "model.keras").write_bytes(b"another model")
    path = recipe_file(replace=[("name: small", f"name: {name}"), ("ratio: 0.5", "ratio: 0.37")])
    found = {a.id: a for a in make_plan(Recipe.load(path), Store(store.root)).actions}
    assert (found["load"].reason, found["prune"].reason) == (reason, "follows load")


@pytest.mark.parametrize(("killed", "reason"), [(True, "prune.ratio 0.5 → 0.37"), (False, "first run")])
def test_for_the_same_model_a_killed_run_is_compared_and_another_recipe_is_not(
    recipe_file, store, killed, reason, record_first, record_run
):
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
def test_what_became_of_the_same_action_last_time_is_the_reason(
    recipe_file, store, status, reason, told, record_first, record_run, plan
):
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


def test_a_damaged_manifest_is_nobody_s(recipe_file, store, record_first, record_run):
    record_first(Recipe.load(recipe_file()), store, DONE)
    record_run(Recipe.load(recipe_file()), store)
    assert len(store.runs.keys_of("small")) == len(DONE)
    for path in store.root.glob("runs/*/manifest.json"):
        path.write_bytes(path.read_bytes()[:-20])
    assert Store(store.root).runs.keys_of("small") == frozenset()


@pytest.mark.parametrize("part", ["config", "inputs", "packages", "seed", "threads", "version", "device", "stage"])
@pytest.mark.parametrize("value", [None, {}, "x"])
def test_a_damaged_record_of_another_configuration_is_compared_with_nothing(
    recipe_file, store, part, value, record_first, plan
):
    record_first(Recipe.load(recipe_file()), store, DONE)
    path = store.records.path(plan(recipe_file, store)["prune"].key)
    document = json.loads(path.read_bytes())
    del document["action"][part]
    path.write_text(
        json.dumps(document if value is None else document | {"action": document["action"] | {part: value}})
    )
    found = plan(recipe_file, Store(store.root), "stages.prune.ratio=0.3")
    assert found["prune"].reason == "first run"


def test_a_missing_blob_is_the_reason(recipe_file, store, record_first, plan):
    record_first(Recipe.load(recipe_file()), store, DONE)
    key = plan(recipe_file, store)["prune"].key
    digest = store.records.get(key).outputs[0].files[0].digest
    store.blobs.path(digest).unlink()
    found = plan(recipe_file, Store(store.root))
    assert found["prune"].reason == f"blob {digest[:11]}… missing"
    assert found["finetune"].reason == "follows prune"
    assert found["load"].status == "hit"


def test_a_new_version_of_a_package_is_the_reason(recipe_file, store, record_first, plan):
    record_first(Recipe.load(recipe_file()), store, DONE)
    key = plan(recipe_file, store)["prune"].key
    action = store.records.get(key).action.model_dump(mode="json")
    newer = {**action, "packages": {**action["packages"], "tensorflow": "2.22.0"}}
    assert differences(action, newer) == [f"tensorflow {action['packages']['tensorflow']} → 2.22.0"]
