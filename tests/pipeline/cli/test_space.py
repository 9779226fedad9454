import json
import shutil

import pytest

from pipeline.errors import RecipeError
from pipeline.store import Store


@pytest.fixture
def copied(finished, tmp_path):
    """Copy the finished run's store: its path and the run's id; no other run is in it."""
    shutil.copytree(finished[1], tmp_path / "store")
    for folder in (tmp_path / "store" / "runs").iterdir():
        if folder.name != finished[2].run_id:
            shutil.rmtree(folder)
    return tmp_path / "store", finished[2].run_id


@pytest.fixture(autouse=True)
def without_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def freed(call, store, *options):
    return json.loads(call("store", "gc", "--store", store, "--json", *options))


def test_a_dry_run_tells_what_the_real_one_frees(copied, call):
    store, run_id = copied
    told = freed(call, store, "--max-size", "0", "--dry-run")
    assert Store(store).runs.ids() == [run_id]
    done = freed(call, store, "--max-size", "0")
    assert done == {**told, "dry_run": False}
    assert (done["runs"], done["kept_bytes"], done["removed"]["records"]["count"]) == ([run_id], 0, 4)
    assert Store(store).runs.ids() == list(Store(store).records.keys()) == list(Store(store).blobs.digests()) == []


def test_what_is_freed_is_printed_with_what_is_protected(copied, call):
    store, run_id = copied
    assert call("store", "pin", "latest", "--store", store) == f"pinned run {run_id}\n"
    lines = call("store", "gc", "--max-size", "1kB", "--store", store).splitlines()
    assert "freed 0.0 kB of" in lines[0]
    assert "4 lock files" in lines[1]
    assert lines[2].endswith("stay; 1 pinned run protected")
    assert "more than --max-size" in lines[3]
    assert "  pinned" in call("store", "ls", "--store", store)
    assert call("store", "unpin", run_id, "--store", store) == f"unpinned run {run_id}\n"
    with pytest.raises(RecipeError, match="is not pinned"):
        call("store", "unpin", run_id, "--store", store)
    assert "4 actions" in call("store", "gc", "--max-size", "1kB", "--store", store)


def test_a_pin_can_be_taken_back_from_a_run_whose_manifest_is_damaged(copied, call):
    store, run_id = copied
    call("store", "pin", run_id, "--store", store)
    (store / "runs" / run_id / "manifest.json").write_text("{")
    assert json.loads(call("store", "unpin", run_id, "--store", store, "--json"))["pinned"] is False


def test_the_settings_limit_what_no_option_does(copied, call, tmp_path):
    store, run_id = copied
    (tmp_path / "config" / "secateur").mkdir(parents=True)
    (tmp_path / "config" / "secateur" / "settings.yaml").write_text("gc: {max_size: 0}")
    assert freed(call, store, "--dry-run", "--keep-days", "1")["runs"] == []
    assert freed(call, store)["runs"] == [run_id]


@pytest.mark.parametrize("size", ["much", "-5", "5 parsecs"])
def test_a_size_that_is_none_is_refused(copied, call, size):
    with pytest.raises(RecipeError, match="not a size"):
        call("store", "gc", f"--max-size={size}", "--store", copied[0])


def test_there_is_nothing_to_collect_or_pin_where_no_store_is(call, tmp_path):
    for command in (("gc",), ("pin", "latest"), ("unpin", "latest")):
        with pytest.raises(RecipeError, match="there is no store"):
            call("store", *command, "--store", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_unknown_run_can_not_be_pinned(copied, call):
    with pytest.raises(RecipeError, match="no run is called 'ffff'"):
        call("store", "pin", "ffff", "--store", copied[0])


def test_statistics_add_up_to_the_files(copied, call):
    store, _ = copied
    document = json.loads(call("store", "stats", "--store", store, "--json"))
    files = {path: path.stat().st_size for path in store.rglob("*") if path.is_file() and path.name != "VERSION"}
    assert document["bytes"] + document["parts"]["other"]["bytes"] == sum(files.values())
    assert document["parts"]["actions"]["count"] == 4
    largest = max(Store(store).blobs.digests(), key=lambda digest: Store(store).blobs.path(digest).stat().st_size)
    assert document["stages"]["load"] == Store(store).blobs.path(largest).stat().st_size
    printed = call("store", "stats", "--store", store)
    assert f"  {'actions':12} {4:>7}" in printed
    assert "0 pinned runs; processes at work: 0" in printed
