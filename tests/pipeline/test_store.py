import json
import os
import resource
import subprocess
import sys
import threading
import time

import pytest

from pipeline.errors import RecipeError, StoreError
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.facts import CalibrationFacts
from pipeline.records.manifest import Action, ActionRecord, Provenance, RunManifest
from pipeline.store import BusyError, Store


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "store")
    opened.create()
    return opened


def record(store, data=b"payload"):
    digest = store.blobs.put(data)
    file = FileRef(name="calibration.npy", digest=digest, size=len(data), media_type="application/x-npy")
    action = Action(
        stage="quantize",
        version=1,
        axis="int8",
        config={},
        inputs={},
        packages={},
        seed=None,
        threads=None,
        device=None,
    )
    made = ActionRecord.sealed(
        key=action.key,
        action=action,
        outputs=(Artifact(files=(file,), facts=CalibrationFacts(samples=1)),),
        metrics={"samples": 1.0},
        intervals={"samples": (0.5, 1.5)},
        children=(),
        wall_s=0.1,
        provenance=Provenance(run_id="0", finished_at="2026-11-22T00:00:00", host="h", secateur="0"),
    )
    store.records.put(made)
    return made


def test_a_blob_is_under_its_digest_and_a_record_comes_back_equal(store):
    made = record(store)
    assert store.blobs.path(made.outputs[0].files[0].digest).read_bytes() == b"payload"
    assert store.records.get(made.key) == made
    assert list((store.root / "tmp").iterdir()) == []


def test_what_is_not_there_is_none(store):
    assert store.records.get("0" * 64) is None


def test_a_missing_blob_makes_the_record_a_miss_with_a_reason(store):
    made = record(store)
    store.blobs.path(made.outputs[0].files[0].digest).unlink()
    reason = Store(store.root).records.get(made.key)
    assert reason == f"blob {made.outputs[0].files[0].digest[:11]}… missing"


def test_a_damaged_blob_is_quarantined_and_a_miss(store):
    made = record(store)
    digest = made.outputs[0].files[0].digest
    store.blobs.path(digest).write_bytes(b"pAyload")
    fresh = Store(store.root)
    assert fresh.records.get(made.key) == f"blob {digest[:11]}… damaged"
    (kept,) = (store.root / "quarantine").iterdir()
    assert kept.name.startswith(digest[7:])
    assert kept.read_bytes() == b"pAyload"
    assert fresh.blobs.put(b"payload") == digest
    assert fresh.records.get(made.key) == made


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schema_version": 1}'])
def test_a_damaged_record_is_quarantined_and_a_miss(store, damage):
    made = record(store)
    store.records.path(made.key).write_bytes(damage)
    assert store.records.get(made.key) == "record damaged"
    assert store.records.get(made.key) is None


def test_a_record_under_a_foreign_key_is_not_believed(store):
    made = record(store)
    other = store.records.path("ab" + "0" * 62)
    other.parent.mkdir()
    other.write_bytes(store.records.path(made.key).read_bytes())
    assert store.records.get("ab" + "0" * 62) == "record damaged"


def test_an_edited_record_is_not_believed(store):
    made = record(store)
    path = store.records.path(made.key)
    edited = path.read_text().replace('"samples": 1.0', '"samples": 0.5')
    assert edited != path.read_text()
    path.write_text(edited)
    assert store.records.get(made.key) == "record damaged"


def test_a_good_blob_that_was_put_back_meanwhile_stays(store):
    """Another process repairs the blob between our reading it and our moving it away."""
    made = record(store)
    digest = made.outputs[0].files[0].digest
    assert store.blobs._was_mended(digest, store.blobs.path(digest))
    assert store.blobs.path(digest).read_bytes() == b"payload"


def test_files_have_the_mode_of_ordinary_files(store, tmp_path):
    made = record(store)
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert store.records.path(made.key).stat().st_mode == ordinary.stat().st_mode


def test_opening_an_absent_store_touches_nothing(tmp_path):
    opened = Store(tmp_path / "none")
    assert opened.records.get("0" * 64) is None
    assert opened.runs.ids() == []
    assert not (tmp_path / "none").exists()


def test_a_store_of_another_format_is_refused(store):
    (store.root / "VERSION").write_text("2\n")
    with pytest.raises(StoreError, match="format '2'"):
        Store(store.root)


def test_targets_that_were_set_up_before_the_first_run_do_not_stand_in_its_way(tmp_path):
    (tmp_path / "targets").mkdir()
    opened = Store(tmp_path)
    opened.create()
    assert Store(tmp_path).runs.ids() == []


def test_a_folder_with_other_things_in_it_is_no_store(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(StoreError, match="not a store"):
        Store(tmp_path)


def test_a_store_whose_creation_was_cut_short_can_be_finished(tmp_path):
    (tmp_path / "tmp").mkdir()
    Store(tmp_path).create()
    assert (tmp_path / "VERSION").read_text() == "1\n"


def test_a_store_below_a_file_is_an_error_with_a_hint(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError) as caught:
        Store(tmp_path / "file" / "store").create()
    assert "--store" in caught.value.hint


def test_a_write_that_does_not_fit_leaves_nothing_behind(store):
    """A limit on file size fails a write halfway, like a full disk, on a real file system."""
    code = (
        "import resource, sys; from pathlib import Path; from pipeline.store import Store;"
        "from pipeline.errors import StoreError\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))\n"
        f"try: Store(Path({str(store.root)!r})).blobs.put(b'x' * 2000)\n"
        "except StoreError as error: sys.exit(40 if error.hint else 41)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 40
    assert list(store.blobs.digests()) == []
    assert list((store.root / "tmp").iterdir()) == []


def test_one_process_holds_a_lock_and_the_other_can_wait_for_it(store):
    code = (
        "import sys, time; from pathlib import Path; from pipeline.store import Store\n"
        f"with Store(Path({str(store.root)!r})).lock('k'): print('held', flush=True); time.sleep(1.0)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError), store.lock("k"):
        pass
    started = time.monotonic()
    store.wait("k")
    assert time.monotonic() - started > 0.3
    with store.lock("k"):
        pass
    holder.stdout.close()
    assert holder.wait() == 0


def test_writers_of_the_same_blob_do_not_disturb_each_other(store):
    data = os.urandom(1 << 18)
    threads = [threading.Thread(target=lambda: Store(store.root).blobs.put(data)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.blobs.digests())) == 1
    assert all(Store(store.root).blobs.problem(digest) is None for digest in store.blobs.digests())


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


def test_scratch_is_per_key_and_can_be_forgotten(store):
    folder = store.create_work_dir("k")
    assert not store.can_resume("k")
    (folder / "tmp123").write_text("left by a write that was cut short")
    assert not store.can_resume("k")
    (folder / "epoch").write_text("1")
    assert store.can_resume("k")
    store.remove_work_dir("k")
    assert not folder.exists()


def test_records_written_before_there_were_fingerprints_are_believed(store):
    made = record(store)
    path = store.records.path(made.key)
    document = json.loads(path.read_bytes())
    assert document.pop("fingerprints") == {}
    path.write_text(json.dumps(document))
    assert store.records.get(made.key) == made
    printed = {"environment": "e", "bits": "sha256:" + "0" * 64, "outputs": [], "tolerance": 1e-5}
    path.write_text(json.dumps({**document, "fingerprints": {"sha256:" + "0" * 64: printed}}))
    assert store.records.get(made.key) == "record damaged"  # the seal covers them
