import os

from pipeline.store.contents import Named, has_progress, survey


def test_what_is_there_how_large_it_is_and_what_it_names(store, record, run_of):
    made = record(store)
    run_of(store, "aaaa1111", made)
    (file,) = made.outputs[0].files
    contents = survey(store.root)
    assert {name: item.size_bytes for name, item in contents.blobs.items()} == {file.digest: len(b"payload")}
    assert contents.records[made.key].size_bytes == store.records.path(made.key).stat().st_size
    assert contents.made[made.key].blobs == {file.digest}
    assert (contents.listed["aaaa1111"].keys, contents.listed["aaaa1111"].title) == ({made.key}, "recipe of aaaa1111")
    assert contents.reached([contents.listed["aaaa1111"]]) == ({made.key}, {file.digest})
    files = [path for path in store.root.rglob("*") if path.is_file() and path.name != "VERSION"]
    assert contents.size_bytes == sum(path.stat().st_size for path in files)


def test_children_are_reached_through_their_parents(store, record):
    child = record(store, b"of the child")
    parent = record(store, b"of the parent", stage="parent", children=(child.key,))
    contents = survey(store.root)
    keys, blobs = contents.reached([contents.made[parent.key]])
    assert keys == {child.key}
    assert blobs == {made.outputs[0].files[0].digest for made in (child, parent)}


def test_damaged_documents_name_nothing_and_stay_where_they_are(store, record, run_of):
    made = record(store)
    run_of(store, "aaaa1111", made)
    for damage in (b"", b"{", b"[]", b'{"stages": 3, "children": 3}', b"[" * 100_000):
        store.records.path(made.key).write_bytes(damage)
        (store.root / "runs" / "aaaa1111" / "manifest.json").write_bytes(damage)
        contents = survey(store.root)
        assert (contents.made[made.key], contents.listed["aaaa1111"]) == (Named(), Named())
        assert contents.reached(contents.listed.values()) == (set(), set())
    assert not (store.root / "quarantine").exists()


def test_a_folder_is_as_large_as_what_is_in_it_and_as_old_as_the_newest(store):
    folder = store.create_work_dir("k")
    (folder / "deep").mkdir()
    (folder / "deep" / "step").write_bytes(b"12345")
    os.utime(folder / "deep" / "step", (50, 50))
    for path in (folder / "deep", folder):
        os.utime(path, (10, 10))
    item = survey(store.root).work["k"]
    assert (item.size_bytes, item.time) == (5, 50)


def test_copies_and_writes_that_were_cut_short_are_no_progress(tmp_path):
    (tmp_path / ".file").touch()
    (tmp_path / "tmp-model").mkdir()
    assert not has_progress(tmp_path)
    (tmp_path / "epoch-1").touch()
    assert has_progress(tmp_path)
    assert not has_progress(tmp_path / "absent")
