"""Check that large uncompressed arrays stay in their file, and that shapes are told from headers alone."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

from pipeline.data import npz
from pipeline.data.npz_rows import StoredRows, array_shape, stored_rows
from pipeline.errors import DataError

VALUES = np.arange(7 * 3 * 2, dtype=np.int16).reshape(7, 3, 2)
SETTINGS = {"source": "npz", "path": "d.npz", "validation": "none"}
# Peak memory while all batches of a split are read, in MiB above its previous value.
MEASURED = """
import resource, sys
from pathlib import Path
import numpy as np
from pipeline.data import DataSource, DataSpec
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
spec = DataSpec(source="npz", path=Path("d.npz"), validation="none")
split = DataSource(spec, Path(sys.argv[1]), 7).split("train")
order, total = np.random.default_rng(0).permutation(len(split)), 0.0
for start in range(0, len(split), 64):
    total += split.take(order[start:start + 64])[0].sum(dtype=np.float64)
print(peak() - before, total)
"""


@pytest.fixture
def small_ones_too(monkeypatch):
    monkeypatch.setattr(npz, "HELD_BYTES", 0)


@pytest.fixture
def stored(tmp_path):
    def make(save=np.savez, **arrays):
        save(tmp_path / "d.npz", **arrays)
        return tmp_path / "d.npz"

    return make


@pytest.mark.parametrize("array", [VALUES, VALUES.astype(">f8"), VALUES[:, 0, 0], VALUES > 20, VALUES[:0]])
def test_rows_are_those_of_the_array_by_slices_and_by_indices(stored, array):
    rows = stored_rows(stored(other=np.zeros(99), x=array), "x.npy")
    assert (rows.shape, rows.dtype, len(rows)) == (array.shape, array.dtype, len(array))
    for key in (slice(None), slice(2, 5), slice(6, 100), slice(3, 3), slice(None, None, 3)):
        assert np.array_equal(rows[key], array[key])
    for indices in ([], [5, 0, 1, 2, 6, 6, 3]):
        if len(array) or not indices:
            assert np.array_equal(rows[np.array(indices, int)], array[np.array(indices, int)])


def test_what_is_compressed_or_lies_in_another_order_is_held_in_memory(stored, small_ones_too, source):
    assert stored_rows(stored(np.savez_compressed, x=VALUES), "x.npy") is None
    fortran = np.asfortranarray(VALUES)
    assert stored_rows(stored(x=fortran), "x.npy") is None
    split = source(stored(x_train=fortran), **SETTINGS).split("train")
    assert isinstance(split.x, np.ndarray)
    assert np.array_equal(split.x, VALUES)


def test_a_split_reads_its_part_from_the_file(stored, small_ones_too, source):
    x, y = np.arange(40.0)[:, None], np.arange(40) % 2
    path = stored(x_train=x, y_train=y)
    data = source(path, **{**SETTINGS, "validation": {"fraction": 0.25}})
    train, validation = data.split("train"), data.split("validation")
    assert isinstance(train.x.samples, StoredRows)
    read = [split.inputs()[:, 0] for split in (train, validation)]
    assert [len(part) for part in read] == [30, 10]
    assert sorted(np.concatenate(read)) == list(range(40))
    assert np.array_equal(read[0] % 2, train.y)
    assert np.array_equal(validation.take(np.array([3, 1]))[0][:, 0], read[1][[3, 1]])


def test_the_digest_does_not_tell_how_the_array_is_read(stored, source, monkeypatch):
    path = stored(x_train=VALUES)
    digest = source(path, **SETTINGS).split("train").digest
    monkeypatch.setattr(npz, "HELD_BYTES", 0)
    assert source(path, **SETTINGS).split("train").digest == digest


def test_a_file_that_changes_is_not_read_on(stored, small_ones_too, source):
    split = source(stored(x_train=VALUES), **SETTINGS).split("train")
    assert split.inputs(0, 2).shape == (2, 3, 2)
    stored(x_train=VALUES[::-1])
    with pytest.raises(DataError, match="changed during the run"):
        split.inputs(0, 2)


def test_a_member_that_is_cut_is_damaged(stored, small_ones_too, source):
    path = stored(x_train=VALUES)
    whole = path.read_bytes()
    place = whole.index(VALUES.tobytes())
    path.write_bytes(whole[:place] + bytes(10) + whole[place + 10 :])  # the checksum no longer matches
    with pytest.raises(DataError, match="damaged"):
        source(path, **SETTINGS).split("train")


def test_what_can_only_be_held_in_memory_has_a_limit(stored, source, monkeypatch):
    path = stored(np.savez_compressed, x_train=np.zeros((1000, 10)))
    monkeypatch.setattr(npz, "usable_bytes", lambda: 100_000)
    with pytest.raises(DataError, match=r"x_train takes 0.0 GiB and could only be held in memory.* 50%") as caught:
        source(path, **SETTINGS).split("train")
    assert "np.savez, uncompressed" in caught.value.hint


def test_memory_does_not_grow_with_the_data(tmp_path):
    """256 MiB, of which a batch of 64 takes 1 MiB; written row by row, so that this process takes no more either."""
    path, rows = tmp_path / "d.npz", 16384
    part = np.full((1024, 64, 64), 1, np.float32)
    with zipfile.ZipFile(path, "w") as archive, archive.open("x_train.npy", "w", force_zip64=True) as member:
        header = {"descr": part.dtype.str, "fortran_order": False, "shape": (rows, 64, 64)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(rows // len(part)):
            member.write(part.tobytes())
    found = subprocess.run([sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=True)
    grown, total = map(float, found.stdout.split())
    assert total == rows * 64 * 64
    assert grown < 64


@pytest.mark.parametrize("shape", [(), (3,), (5, 0, 2), (2, 3, 4, 5)])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_shape_of_an_array_is_read_from_its_header(shape, save, tmp_path):
    save(tmp_path / "a.npz", x=np.zeros(shape, "uint8"), fortran=np.asfortranarray(np.zeros((3, 4))))
    assert array_shape(tmp_path / "a.npz", "x.npy") == shape
    assert array_shape(tmp_path / "a.npz", "fortran.npy") == (3, 4)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUM",
        b"no array at all",
        b"\x93NUMPY\x01\x00\x05\x00{'a':",
        b"\x93NUMPY\x01\x00\x02\x00{}",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
        b"\x93NUMPY\x01\x00\x0f\x00{'shape': (-1,)}",
    ],
)
def test_what_is_no_array_is_a_value_error(content, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(ValueError, match=r"x\.npy"):
        array_shape(tmp_path / "a.npz", "x.npy")
