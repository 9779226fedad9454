def test_pins_are_files_by_the_id_of_the_run(store):
    store.pins.add("aaaa1111")
    store.pins.add("aaaa1111")
    assert store.pins.ids() == {"aaaa1111"}
    assert [path.name for path in (store.root / "refs").iterdir()] == ["aaaa1111"]
    assert store.pins.remove("aaaa1111")
    assert not store.pins.remove("aaaa1111")
    assert store.pins.ids() == frozenset()
