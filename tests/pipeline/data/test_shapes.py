"""Check shapes of samples, told from headers and settings alone."""

import json
import zipfile

import numpy as np
import pytest

from pipeline.data import DataSpec, data_source
from pipeline.data.npz_rows import array_shape
from pipeline.errors import DataError


def data_of(settings, folder):
    return data_source(DataSpec.model_validate_json(json.dumps(settings)), folder, 7)


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


def test_npz_files_tell_each_size_once_that_of_train_first(tmp_path):
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


def test_other_sources_tell_by_their_settings(make_images, tmp_path):
    make_images({"a/1.png": 3, "b/1.png": 4})
    folder = {"source": "image_folder", "path": "images", "size": [12, 16], "channels": 1}
    assert data_of(folder, tmp_path).shapes() == ({"": (12, 16, 1)},)
    (tmp_path / "t.csv").write_text("a,b,c,y,path\n1,2,3,4,images/a/1.png\n")
    table = {"source": "csv", "path": "t.csv", "label": "y"}
    assert data_of(table, tmp_path).shapes() == ({"": (4,)},)
    assert data_of({**table, "inputs": ["a", "b"]}, tmp_path).shapes() == ({"": (2,)},)
    assert data_of({**table, "inputs": {"u": ["a", "b"], "v": ["c"]}}, tmp_path).shapes() == ({"u": (2,), "v": (1,)},)
    pictures = {**table, "image": "path", "size": [4, 6]}
    assert data_of(pictures, tmp_path).shapes() == ({"": (4, 6, 3)},)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef split(name):\n    assert name == 'train'\n    return np.zeros((3, 7, 2))\n"
    )
    assert data_of({"source": "python", "function": "mine:split"}, tmp_path).shapes() == ({"": (7, 2)},)


def test_tfrecords_tell_by_their_features(tmp_path):
    (tmp_path / "t.tfrecord").write_bytes(b"")
    features = {"pixels": {"type": "image"}, "more": {"type": "float32", "shape": [5]}, "y": {"type": "int64"}}
    settings = {"source": "tfrecord", "path": "t.tfrecord", "size": [4, 6], "label": "y", "features": features}
    assert data_of(settings, tmp_path).shapes() == ({"pixels": (4, 6, 3), "more": (5,)},)
    assert data_of({**settings, "inputs": ["pixels"]}, tmp_path).shapes() == ({"": (4, 6, 3)},)
