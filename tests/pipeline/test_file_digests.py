import json
import os
import time

import pytest

from pipeline.store.file_digests import FileDigests

OLD_NS = 10_000_000_000


class Reader:
    """What computes a digest, and how often it did."""

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
    """It is ten seconds later than the files say: a change time can't be set back by hand."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + OLD_NS)


def test_a_settled_file_is_read_once_by_all_processes(file, memory, later):
    read, digests = Reader(file), FileDigests(memory)
    assert digests.remembered(file, "x", read) == digests.remembered(file, "x", read) == "first"
    digests.save(memory.parent)
    assert FileDigests(memory).remembered(file, "x", read) == "first"
    assert read.count == 1
    assert list(json.loads(memory.read_text())) == [f"{file}#x"]


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


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"a": 1}', b'{"a": []}', b"\xff"])
def test_a_damaged_memory_is_an_empty_one(file, memory, damage):
    memory.write_bytes(damage)
    assert FileDigests(memory).remembered(file, "x", Reader(file)) == "first"


def test_computed_reads_the_file_whatever_is_remembered(file):
    read, digests = Reader(file), FileDigests()
    digests.remembered(file, "x", read)
    assert digests.computed(file, "x", read) == "first"
    assert read.count == 2
