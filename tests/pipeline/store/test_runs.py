import os

import pytest

from pipeline.errors import RecipeError, StoreError
from pipeline.records.manifest import RunManifest
from pipeline.store.seals import sealed


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


@pytest.fixture
def written(store):
    """Put a manifest, and return its file."""
    store.runs.put(manifest("aaaa1111"))
    return store.root / "runs" / "aaaa1111" / "manifest.json"


def test_whichever_bit_of_a_manifest_is_flipped_it_is_refused(store, written):
    whole = written.read_bytes()
    for bit in range(0, len(whole) * 8, 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        written.write_bytes(damaged)
        with pytest.raises(StoreError, match="the run's manifest is damaged"):
            store.runs.get("aaaa1111")
    assert written.is_file()  # who looks moves nothing


def emptied(path):
    path.write_bytes(b"")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


def without_a_seal(path):
    path.write_text(manifest("aaaa1111").model_dump_json(indent=1))


def of_another_run(path):
    path.write_bytes(sealed(manifest("bbbb2222").model_dump_json(indent=1).encode()))


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [emptied, cut_short, without_a_seal, of_another_run, a_folder])
def test_a_manifest_that_is_not_what_its_run_wrote_is_refused_and_quarantined_when_asked_for(store, written, damage):
    assert store.runs.problem("aaaa1111") is None
    damage(written)
    assert store.runs.keys_of("n") == frozenset()
    for name in ("aaaa1111", "latest"):
        with pytest.raises(StoreError, match="the run's manifest is damaged, or older than seals are"):
            store.runs.get(name)
    assert store.runs.problem("aaaa1111") == "manifest damaged"
    assert store.runs.ids() == []
    (kept,) = (store.root / "quarantine").iterdir()
    assert kept.name.startswith("manifest.json.")


def test_a_whole_manifest_of_another_release_is_told_apart(store, written):
    newer = written.read_bytes().replace(b'"gates": []', b'"doors": []')
    written.write_bytes(sealed(newer[: newer.index(b',\n "seal"')] + b"\n}"))
    with pytest.raises(StoreError, match="the run's manifest is of another release"):
        store.runs.get("aaaa1111")
    assert store.runs.problem("aaaa1111") is None


def test_a_name_that_is_no_id_is_no_path(store):
    assert not store.runs.has("../x")
    assert not store.runs.has("x" * 300)
    assert not store.runs.has("\0")
