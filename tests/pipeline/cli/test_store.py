import json
import shutil

import pytest

from pipeline.errors import StoreError
from pipeline.store import Store


def test_runs_and_actions_are_listed(finished, call):
    _, store, manifest = finished
    document = json.loads(call("store", "ls", "--store", store, "--json"))
    assert {"run_id": manifest.run_id, "name": "short", "verdict": "pass"} in document["runs"]
    assert {action["key"] for action in document["actions"]} == {entry.key for entry in manifest.stages}
    assert f"run {manifest.run_id}  pass" in call("store", "ls", "--store", store)


def test_damage_is_found_and_named(finished, call, tmp_path):
    shutil.copytree(finished[1], tmp_path / "store")
    assert "0 problems" in call("store", "verify", "--store", tmp_path / "store")
    digest = min(Store(tmp_path / "store").blobs.digests())
    Store(tmp_path / "store").blobs.path(digest).write_bytes(b"other bytes")
    (tmp_path / "store" / "runs" / finished[2].run_id / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="parts of the store are damaged or missing"):
        call("store", "verify", "--store", tmp_path / "store")
    kept = sorted(path.name.partition(".")[0] for path in (tmp_path / "store" / "quarantine").iterdir())
    assert kept == sorted([digest[7:], "manifest"])
    assert Store(tmp_path / "store").runs.ids() == []  # what is in quarantine is found no second time


def test_one_of_something_is_singular(finished, call, tmp_path):
    shutil.copytree(finished[1], tmp_path / "store")
    (tmp_path / "store" / "runs" / finished[2].run_id / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"^1 part of the store is damaged or missing"):
        call("store", "verify", "--store", tmp_path / "store")
    assert "4 actions" in call("store", "ls", "--store", finished[1])
