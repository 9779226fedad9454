import json

import pytest

from pipeline.store import Store


def test_a_blob_is_under_its_digest_and_a_record_comes_back_equal(store, record):
    made = record(store)
    assert store.blobs.path(made.outputs[0].files[0].digest).read_bytes() == b"payload"
    assert store.records.get(made.key) == made
    assert list((store.root / "tmp").iterdir()) == []


def test_what_is_not_there_is_none(store):
    assert store.records.get("0" * 64) is store.records.peek("0" * 64) is None


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


def parts(document, path=()):
    """Yield the path of each part of a JSON document."""
    yield path
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        yield from parts(value, (*path, key))


def with_part(document, path, value):
    """Return a copy of a document in which one part is another value."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = with_part(document[path[0]], path[1:], value)
    return copy


WRONG = (None, 7, 10**20, -0.5, "x", "\ud800", [], {}, ["x"], {"x": 1})


def test_a_record_with_any_part_of_another_value_is_a_miss_and_explains_nothing(store, record):
    made = record(store)
    path, document = store.records.path(made.key), json.loads(store.records.path(made.key).read_bytes())
    ((action, provenance),) = store.records.actions("quantize", "int8")
    assert (action, provenance) == (made.action, made.provenance)
    for part in parts(document):
        for wrong in WRONG:
            edited = with_part(document, part, wrong)
            path.write_text(json.dumps(edited))
            told = list(store.records.actions("quantize", "int8"))
            # What differs in other parts is no matter for an explanation, which only looks at these two.
            assert all(one == made.action for one, _ in told), (part, wrong)
            assert store.records.peek(made.key) == (made if edited == document else None), (part, wrong)
            assert store.records.get(made.key) == (made if edited == document else "record damaged"), (part, wrong)


@pytest.mark.parametrize("damage", [b"", b"[" * 100_000, b"7" * 10_000, b"\xff", b"[]", b'{"action": 1}', b"null"])
def test_what_is_no_record_explains_nothing(store, damage, record):
    made = record(store)
    store.records.path(made.key).write_bytes(damage)
    assert list(store.records.actions("quantize", "int8")) == []
    assert store.records.get(made.key) == "record damaged"
