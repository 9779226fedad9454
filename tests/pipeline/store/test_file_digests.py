import json
import os
import time

import pytest

from pipeline.records.keys import digest_of_bytes
from pipeline.store.file_digests import FileDigests, listing, state_of
from pipeline.store.seals import sealed

OLD_NS = 10_000_000_000


class Reader:
    """Compute a digest and count how often."""

    def __init__(self, path):
        self.path, self.count = path, 0

    def __call__(self):
        self.count += 1
        return self.path.read_text()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.npz"
    path.write_text("first")
    return path


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "memory.json"


@pytest.fixture
def later(monkeypatch):
    """Set the time ten seconds after the files': a change time can't be set back by hand."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + OLD_NS)


def test_a_settled_file_is_read_once_by_all_processes(file, memory, later):
    read, digests = Reader(file), FileDigests(memory)
    assert digests.remembered(file, "x", read) == digests.remembered(file, "x", read) == "first"
    digests.save(memory.parent)
    assert FileDigests(memory).remembered(file, "x", read) == "first"
    assert read.count == 1
    assert list(json.loads(memory.read_text())["files"]) == [f"{file}#x"]


def test_parts_of_a_file_are_apart(file):
    digests = FileDigests()
    assert digests.remembered(file, "x", lambda: "of x") == "of x"
    assert digests.remembered(file, "y", lambda: "of y") == "of y"


def test_a_file_changed_just_now_is_not_written_down(file, memory):
    read, digests = Reader(file), FileDigests(memory)
    digests.remembered(file, "x", read)
    digests.save(memory.parent)
    assert not memory.exists()
    assert FileDigests(memory).remembered(file, "x", read) == "first"
    assert read.count == 2


def test_an_edit_that_keeps_size_and_time_is_seen(file, memory, later):
    digests = FileDigests(memory)
    digests.remembered(file, "x", Reader(file))
    digests.save(memory.parent)
    before = file.stat()
    file.write_text("other")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FileDigests(memory).remembered(file, "x", Reader(file)) == "other"


DAMAGE = (b"", b"[]", b'{"a": 1}', b'{"a": []}', b"\xff", b"[\n}", b'{"files": 1\n}', b'{"files": {"a": 1}\n}')


@pytest.mark.parametrize("damage", [*DAMAGE, *map(sealed, DAMAGE)])
def test_a_damaged_memory_is_an_empty_one(file, memory, damage):
    memory.write_bytes(damage)
    assert FileDigests(memory).remembered(file, "x", Reader(file)) == "first"


def test_whichever_bit_of_the_memory_is_flipped_it_is_forgotten(file, memory, later):
    digests = FileDigests(memory)
    digests.remembered(file, "x", Reader(file))
    digests.save(memory.parent)
    whole = memory.read_bytes()
    for bit in range(0, len(whole) * 8, 5):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        memory.write_bytes(damaged)
        read = Reader(file)
        assert FileDigests(memory).remembered(file, "x", read) == "first"
        assert read.count == 1, bit


def test_what_is_forgotten_is_forgotten_on_disk(file, memory, later):
    digests = FileDigests(memory)
    digests.remembered(file, "x", Reader(file))
    digests.of_files(file.parent, "all", {file.name: state_of(file)})
    digests.save(memory.parent)
    again = FileDigests(memory)
    again.of_files(file.parent, "all", {file.name: state_of(file)})
    again.forget()
    again.save(memory.parent)
    for path in (memory, *memory.with_suffix("").iterdir()):
        assert json.loads(path.read_bytes())["files"] == {}


def test_computed_reads_the_file_whatever_is_remembered(file):
    read, digests = Reader(file), FileDigests()
    digests.remembered(file, "x", read)
    assert digests.computed(file, "x", read) == "first"
    assert read.count == 2


def test_confirmed_reads_again_what_could_have_changed_unseen(file, memory, monkeypatch):
    read, digests = Reader(file), FileDigests(memory)
    digests.remembered(file, "x", read)
    assert digests.confirmed(file, "x", read) == "first"
    assert read.count == 2
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + OLD_NS)
    digests.confirmed(file, "x", read)
    digests.confirmed(file, "x", read)
    assert read.count == 3


def test_a_listing_has_states_of_wanted_files_and_all_folders(tmp_path):
    for name in ("b/2.png", "b/deep/1.PNG", "a/x.txt", ".hidden/3.png", "top.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    files, folders = listing(tmp_path, (".png",))
    assert list(files) == ["b/2.png", "b/deep/1.PNG", "top.png"]
    assert folders == ["a", "b", "b/deep"]
    assert files["top.png"] == state_of(tmp_path / "top.png")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    with pytest.raises(OSError, match="deep"):
        listing(tmp_path, (".png",))


def test_files_that_are_gone_are_forgotten(tmp_path, memory, later):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text(name)
    digests = FileDigests(memory)
    found = digests.of_files(tmp_path, "images", listing(tmp_path, (".png",))[0])
    assert found["a.png"] == digest_of_bytes(b"a.png")
    digests.save(tmp_path)
    (written,) = memory.with_suffix("").iterdir()
    assert len(json.loads(written.read_text())["files"]) == 2
    (tmp_path / "b.png").unlink()
    digests.of_files(tmp_path, "images", listing(tmp_path, (".png",))[0])
    digests.save(tmp_path)
    assert list(json.loads(written.read_text())["files"]) == ["a.png"]
    assert not memory.exists()
