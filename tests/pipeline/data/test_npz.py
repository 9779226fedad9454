import zipfile

import numpy as np
import pytest

from pipeline.data import Preprocess
from pipeline.errors import DataError


def test_npz_files_tell_each_size_once_that_of_train_first(tmp_path, data_of):
    small, large = np.zeros((4, 6, 8, 3)), np.zeros((4, 9, 9, 3))
    np.savez(tmp_path / "a.npz", x_train=small, x_valid=small, x_test=large)
    settings = {"source": "npz", "path": "a.npz", "validation": "valid", "test": "test"}
    assert data_of(settings, tmp_path).shapes() == ({"": (6, 8, 3)}, {"": (9, 9, 3)})
    assert data_of({**settings, "test": "absent"}, tmp_path).shapes() == ({"": (6, 8, 3)},)
    np.savez(tmp_path / "a.npz", x_train__a=small, x_train__b=large)
    assert data_of({"source": "npz", "path": "a.npz"}, tmp_path).shapes() == ({"a": (6, 8, 3), "b": (9, 9, 3)},)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x_train.npy", b"nothing")
    with pytest.raises(DataError, match=r"x_train can't be read: x_train\.npy holds no array"):
        data_of({"source": "npz", "path": "a.npz"}, tmp_path).shapes()


def test_a_digest_covers_bytes_picking_and_preprocessing_but_not_compression(npz_source, arrays):
    names = ("train", "validation", "calibration", "test")
    digests = {name: npz_source().digest(name) for name in names}
    assert len(set(digests.values())) == len(names)
    assert {name: npz_source(compressed=False).digest(name) for name in names} == digests
    assert npz_source(preprocess=Preprocess(scale=0.25)).digest("test") != digests["test"]
    changed = arrays()
    changed["x_train"][0, 0, 0, 0] ^= 1
    assert npz_source(members=changed).digest("train") != digests["train"]
    assert npz_source(members=changed).digest("test") == digests["test"]


def test_a_missing_member_and_a_damaged_file_are_named(npz_source, tmp_path, arrays):
    members = arrays()
    del members["x_test"]
    data = npz_source(members=members)
    with pytest.raises(
        DataError, match="targets y_test and no inputs x_test: it has x_train, y_test, y_train"
    ) as caught:
        data.digest("test")
    assert caught.value.hint == "splits that are there: train, or let a part of train be drawn: `test: {fraction: 0.2}`"
    path = tmp_path / "d.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="damaged"):
        data.digest("train")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "no inputs x_test: it has no arrays at all"),
        (("y_train", "y_test"), "targets y_test and no inputs x_test: it has y_test, y_train"),
        (("images", "labels"), "no inputs x_test: it has images, labels"),
        (("x_test", "x_test__a"), "holds x_test and x_test__a: which are the inputs"),
        (("x_test__a", "x_test__b"), "x_test__a has 5 samples, x_test__b has 6"),
        (tuple(f"x_{n:02}" for n in range(40)), "it has x_00, .*, x_11, …$"),
    ],
)
def test_what_an_npz_holds_is_told_where_something_is_missing(npz_source, names, words):
    data = npz_source(members={name: np.zeros((5 + (name == "x_test__b"), 2)) for name in names})
    with pytest.raises(DataError, match=words):
        data.split("test")


def test_words_are_no_inputs(npz_source, arrays):
    with pytest.raises(DataError, match="numbers are needed"):
        npz_source(members=arrays() | {"x_test": np.full((30, 5), "a")}).split("test")


def test_the_digest_covers_the_targets_of_every_output_and_their_names(npz_source, heads):
    digest = npz_source(members=heads()).digest("test")
    changed, renamed = heads(), heads()
    changed["y_test__level"][0] += 1
    renamed["y_test__height"] = renamed.pop("y_test__level")
    assert len({digest, *(npz_source(members=one).digest("test") for one in (changed, renamed))}) == 3


def test_targets_with_and_without_a_name_are_one_too_many(npz_source, heads):
    with pytest.raises(DataError, match="holds y_test and y_test__kind"):
        npz_source(members={**heads(), "y_test": np.zeros(30)}).split("test")
    short = {**heads(), "y_test__level": np.zeros(29)}
    with pytest.raises(DataError, match="x_test has 30 samples, y_test__level has 29 labels"):
        npz_source(members=short).split("test")
