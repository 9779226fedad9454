import json
import shutil
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from pipeline.cli import build_app
from pipeline.errors import StoreError
from pipeline.store import Store


def files_in(manifest):
    return [file for entry in manifest.stages for output in entry.outputs for file in output.files]


def test_runs_and_actions_are_listed(finished, call):
    _, store, manifest = finished
    document = json.loads(call("store", "ls", "--store", store, "--json"))
    line = next(run for run in document["runs"] if run["run_id"] == manifest.run_id)
    assert (line["name"], line["verdict"], line["pinned"]) == ("short", "pass", False)
    taken = {entry.key: Store(store).records.path(entry.key) for entry in manifest.stages}
    taken |= {file.digest: Store(store).blobs.path(file.digest) for file in files_in(manifest)}
    taken["manifest"] = store / "runs" / manifest.run_id / "manifest.json"
    assert line["size"] == sum(path.stat().st_size for path in taken.values())
    written = datetime.fromtimestamp(taken["manifest"].stat().st_mtime, UTC)
    assert line["finished_at"] == written.isoformat(timespec="seconds")
    assert {action["key"] for action in document["actions"]} == {entry.key for entry in manifest.stages}
    (printed,) = [row for row in call("store", "ls", "--store", store).splitlines() if manifest.run_id in row]
    assert printed.split()[2] == line["finished_at"]
    assert f"{line['size'] / 1000:.1f} kB  pass" in printed


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
    assert not Store(tmp_path / "store").runs.has(finished[2].run_id)


def test_listing_and_showing_leave_damage_where_it_is_and_verify_tells_it(finished, call, tmp_path):
    store = Store(shutil.copytree(finished[1], tmp_path / "store"))
    export = next(entry for entry in finished[2].stages if entry.stage == "export")
    strip = next(entry for entry in finished[2].stages if entry.stage == "strip")
    path = store.records.path(strip.key)
    path.write_bytes(path.read_bytes()[:-1])
    result = CliRunner().invoke(build_app(["store"]), ["store", "ls", "--json", "--store", str(store.root)])
    assert len(json.loads(result.stdout)["actions"]) == len(finished[2].stages) - 1
    assert result.stderr.startswith("! 1 file can't be listed: ")
    assert "store verify" in result.stderr
    call("show", export.outputs[0].digest, "--store", store.root)
    call("show", finished[2].run_id, "--why", "strip", "--store", store.root)
    assert path.is_file()
    with pytest.raises(StoreError, match=r"^1 part of the store is damaged or missing"):
        call("store", "verify", "--store", store.root)
    assert not path.exists()
    assert "quarantine/ also holds 1 file with damage" in call("store", "verify", "--store", store.root)
    assert json.loads(call("store", "verify", "--json", "--store", store.root))["quarantined"] == 1


def test_one_of_something_is_singular(finished, call, tmp_path):
    shutil.copytree(finished[1], tmp_path / "store")
    (tmp_path / "store" / "runs" / finished[2].run_id / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"^1 part of the store is damaged or missing"):
        call("store", "verify", "--store", tmp_path / "store")
    assert "4 actions" in call("store", "ls", "--store", finished[1])
