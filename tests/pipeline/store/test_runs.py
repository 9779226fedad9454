import os

import pytest

from pipeline.errors import RecipeError, StoreError
from pipeline.records.manifest import RunManifest


def manifest(run_id):
    return RunManifest(
        run_id=run_id, name="n", recipe_digest="sha256:" + "0" * 64, stages=(), metrics={}, gates=(), verdict="pass"
    )


def test_runs_are_found_by_id_prefix_and_latest(store):
    store.runs.put(manifest("aaaa1111"))
    os.utime(store.root / "runs" / "aaaa1111" / "manifest.json", (1, 1))
    store.runs.put(manifest("aabb2222"))
    assert store.runs.get("aabb").run_id == store.runs.get("latest").run_id == "aabb2222"
    assert store.runs.get("aaaa1111") == manifest("aaaa1111")
    assert store.runs.get("ffff") is None
    assert store.runs.get("../x") is None
    with pytest.raises(RecipeError, match="2 runs"):
        store.runs.get("aa")


def test_a_damaged_manifest_is_an_error_that_says_so(store):
    store.runs.put(manifest("aaaa1111"))
    (store.root / "runs" / "aaaa1111" / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        store.runs.get("aaaa")
