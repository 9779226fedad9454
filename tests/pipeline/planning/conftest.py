import json

import pytest

from pipeline.planning.plan import make_plan, resolve
from pipeline.planning.wiring import build_chain
from pipeline.recipe.recipe import Recipe
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import KerasFacts
from pipeline.records.manifest import ActionRecord, Provenance, RunManifest


def put_first(recipe, store, names):
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


def put_run(recipe, store, entries=(), run_id="0"):
    """Return a run of the recipe in which all that is recorded was done, with details in `entries`."""
    stages = [
        {"id": "a", "stage": "a", "axis": None, "key": key, "status": "ran", "reason": "", "wall_s": 0.0}
        for key in store.records.keys()  # noqa: SIM118 - no dict
    ]
    stages += [{"wall_s": 0.0, **entry} for entry in entries]
    head = {"run_id": run_id, "name": recipe.name, "recipe_digest": recipe.digest, "stages": stages}
    store.runs.put(RunManifest.model_validate_json(json.dumps({**head, "metrics": {}, "gates": [], "verdict": "pass"})))


def planned(recipe_file, store, *overrides, **options):
    return {a.id: a for a in make_plan(Recipe.load(recipe_file(), overrides), store, **options).actions}


@pytest.fixture
def record_first():
    """Record nodes of a recipe as done."""
    return put_first


@pytest.fixture
def record_run():
    """Record a run of a recipe."""
    return put_run


@pytest.fixture
def plan():
    """Return the planned actions of the recipe by id."""
    return planned


def built(recipe_file, *replace):
    return build_chain(Recipe.load(recipe_file(replace=replace)))


@pytest.fixture
def chain():
    """Return the chain of the recipe with these replacements."""
    return built
