import json

import pytest

from pipeline.store import Store


def test_a_blob_is_under_its_digest_and_a_record_comes_back_equal(store, record):
    made = record(store)
    assert store.blobs.path(made.outputs[0].files[0].digest).read_bytes() == b"payload"
    assert store.records.get(made.key) == made
    assert list((store.root / "tmp").iterdir()) == []


def test_what_is_not_there_is_none(store):
    assert store.records.get("0" * 64) is None


def test_a_missing_blob_makes_the_record_a_miss_with_a_reason(store, record):
    made = record(store)
    store.blobs.path(made.outputs[0].files[0].digest).unlink()
    reason = Store(store.root).records.get(made.key)
    assert reason == f"blob {made.outputs[0].files[0].digest[:11]}… missing"


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schema_version": 1}'])
def test_a_damaged_record_is_quarantined_and_a_miss(store, damage, record):
    made = record(store)
    store.records.path(made.key).write_bytes(damage)
    assert store.records.get(made.key) == "record damaged"
    assert store.records.get(made.key) is None


def test_a_record_under_a_foreign_key_is_not_believed(store, record):
    made = record(store)
    other = store.records.path("ab" + "0" * 62)
    other.parent.mkdir()
    other.write_bytes(store.records.path(made.key).read_bytes())
    assert store.records.get("ab" + "0" * 62) == "record damaged"


def test_an_edited_record_is_not_believed(store, record):
    made = record(store)
    path = store.records.path(made.key)
    edited = path.read_text().replace('"samples": 1.0', '"samples": 0.5')
    assert edited != path.read_text()
    path.write_text(edited)
    assert store.records.get(made.key) == "record damaged"


def test_records_written_before_there_were_fingerprints_are_believed(store, record):
    made = record(store)
    path = store.records.path(made.key)
    document = json.loads(path.read_bytes())
    assert document.pop("fingerprints") == {}
    path.write_text(json.dumps(document))
    assert store.records.get(made.key) == made
    printed = {"environment": "e", "bits": "sha256:" + "0" * 64, "outputs": [], "tolerance": 1e-5}
    path.write_text(json.dumps({**document, "fingerprints": {"sha256:" + "0" * 64: printed}}))
    assert store.records.get(made.key) == "record damaged"  # the seal covers them
