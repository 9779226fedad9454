import threading

import pytest

from pipeline.errors import RecipeError, SecateurError
from pipeline.store.seals import unsealed
from stages.commands.histories.record import append, commit_of, read_history


def test_what_is_added_is_read_again_in_order(entry, tmp_path):
    file = tmp_path / "h.jsonl"
    append(file, [entry(1.0), entry(2.0)])
    append(file, [entry(3.0, commit="abc")])
    history = read_history(file)
    assert history.entries == (entry(1.0), entry(2.0), entry(3.0, commit="abc"))
    assert history.damaged == ()
    assert len(file.read_text().splitlines()) == 3


def test_a_damaged_line_is_named_with_its_fault_and_the_others_are_read(entry, tmp_path):
    file = tmp_path / "h.jsonl"
    append(file, [entry(1.0)])
    whole = unsealed(file.read_bytes().strip()).decode() + "\n"  # as earlier releases wrote lines
    file.write_text(whole + whole.replace('"rounds":10', '"rounds":"many"') + "\n" + whole[:50])
    append(file, [entry(4.0)])  # after a truncated line
    history = read_history(file)
    assert [one.metrics["latency_p50_ms"] for one in history.entries] == [1.0, 4.0]
    assert [line.partition(": ")[0] for line in history.damaged] == [f"{file}:2", f"{file}:4"]
    assert "rounds" in history.damaged[0]
    assert "JSON" in history.damaged[1]


def test_whichever_bit_of_a_line_is_flipped_it_is_left_out_and_named(entry, tmp_path):
    file = tmp_path / "h.jsonl"
    append(file, [entry(1.0), entry(2.0)])
    first, whole = file.read_bytes().splitlines()
    for bit in range(0, len(whole) * 8, 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(first + b"\r\n" + damaged)
        history = read_history(file)
        assert history.entries == (entry(1.0),), bit
        assert history.damaged, bit
    assert read_history(file).damaged[0].startswith(f"{file}:2: ")


def test_a_file_of_another_kind_is_never_added_to(entry, tmp_path):
    other = tmp_path / "model.tflite"
    other.write_bytes(b"\x1c\x00\x00\x00TFL3\xff\xfe")
    for refused in (lambda: append(other, [entry()]), lambda: read_history(other)):
        with pytest.raises(RecipeError, match="no history"):
            refused()
    assert other.read_bytes() == b"\x1c\x00\x00\x00TFL3\xff\xfe"
    with pytest.raises(RecipeError, match="not there"):
        read_history(tmp_path / "none.jsonl")
    with pytest.raises(RecipeError, match="can't be kept there"):
        append(tmp_path / "no" / "h.jsonl", [entry()])
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    append(empty, [entry()])
    assert len(read_history(empty).entries) == 1


def test_a_write_that_fails_leaves_the_file_as_it_was(entry, tmp_path, monkeypatch):
    file = tmp_path / "h.jsonl"
    append(file, [entry(1.0)])
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SecateurError, match="No space left"):
        append(file, [entry(2.0)])
    assert file.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"h.jsonl", ".h.jsonl.lock"}


def test_lines_of_several_at_once_are_all_kept(entry, tmp_path):
    file = tmp_path / "h.jsonl"
    threads = [threading.Thread(target=append, args=(file, [entry(float(n))])) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.metrics["latency_p50_ms"] for one in read_history(file).entries) == list(map(float, range(12)))


def test_the_commit_is_cis_or_gits(tmp_path, monkeypatch):
    for name in ("GITHUB_SHA", "CI_COMMIT_SHA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) is None
    monkeypatch.setenv("GITHUB_SHA", "abc123")
    assert commit_of(tmp_path) == "abc123"
