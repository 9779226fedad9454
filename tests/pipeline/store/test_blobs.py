import os
import shutil
import threading

import pytest

from pipeline.store import Store
from pipeline.store.file_digests import FileDigests


def test_a_damaged_blob_is_quarantined_and_a_miss(store, record):
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


def test_a_good_blob_that_was_put_back_meanwhile_stays(store, record):
    """Another process repairs the blob between our reading it and our moving it away."""
    made = record(store)
    digest = made.outputs[0].files[0].digest
    assert store.blobs._was_mended(digest, store.blobs.path(digest))
    assert store.blobs.path(digest).read_bytes() == b"payload"


def test_writers_of_the_same_blob_do_not_disturb_each_other(store):
    data = os.urandom(1 << 18)
    threads = [threading.Thread(target=lambda: Store(store.root).blobs.put(data)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.blobs.digests())) == 1
    assert all(Store(store.root).blobs.problem(digest) is None for digest in store.blobs.digests())


def obstruct(path, *, by):
    """Put a folder with something in it, or a file, in the place of whatever is there."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if by == "file":
        path.write_text("in the way")
    else:
        (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize("name", ["tmp", "blobs", "blobs/sha256", "actions/sha256", "runs", "work", "locks"])
def test_a_file_in_place_of_a_folder_of_the_store_is_moved_away(store, record, name):
    obstruct(store.root / name, by="file")
    again = Store(store.root)
    again.create()
    made = record(again)
    assert Store(store.root).records.get(made.key) == made
    with again.lock("k"):
        assert again.create_work_dir("k").is_dir()
    (moved,) = (store.root / "quarantine").iterdir()
    assert moved.read_text() == "in the way"


def test_a_folder_in_place_of_any_file_of_the_store_is_moved_away(store, record):
    made = record(store)
    blob, path = store.blobs.path(made.outputs[0].files[0].digest), store.records.path(made.key)
    lock, work, memory = store.root / "locks" / "k.lock", store.work_dir("k"), store.file_digests
    for file in (blob, path, lock, memory, store.root / "VERSION"):
        obstruct(file, by="folder")
    obstruct(work, by="file")
    again = Store(store.root)
    again.create()
    assert again.records.peek(made.key) is None
    assert again.records.get(made.key) == "record damaged"
    assert again.blobs.problem(made.outputs[0].files[0].digest) == "missing"
    with again.lock("k"):
        assert again.create_work_dir("k").is_dir()
    assert record(again) == made
    again.remember(FileDigests(memory))
    assert Store(store.root).records.get(made.key) == made
    moved = {path.name.partition(".")[0] for path in (store.root / "quarantine").iterdir()}
    assert moved == {blob.name, path.stem, "k", "file-digests", "VERSION"}
