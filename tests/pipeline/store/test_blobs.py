import os
import threading

from pipeline.store import Store


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
