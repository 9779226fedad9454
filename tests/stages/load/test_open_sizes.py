"""Check that open sizes are detected from a file of any format, without TensorFlow, and remembered."""

import subprocess
import sys

import pytest

from pipeline.recipe.model_files import FILE
from pipeline.recipe.model_spec import Application
from pipeline.store.file_digests import FileDigests
from stages.load.open_sizes import may_leave_sizes_open

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


def made(keras, shape):
    return keras.Sequential([keras.Input(shape), keras.layers.Conv1D(3, 2)])


def answer(path):
    return may_leave_sizes_open(None, {FILE: path}, FileDigests())


@pytest.mark.parametrize(("shape", "is_open"), [((None, 4), True), ((9, 4), False)])
def test_every_format_tells(either_keras, keras2, shape, is_open, tmp_path):
    model = made(either_keras, shape)
    names = ["m.keras", "m.h5", "m.json", *(["folder"] if either_keras is keras2 else [])]
    for name in names:
        path = tmp_path / name
        if name == "m.json":
            path.write_text(model.to_json())
        elif name == "folder":
            model.save(path, save_format="tf")
        else:
            model.save(path)
        assert answer(path) is is_open, name


def test_what_is_no_model_leaves_none_open(tmp_path):
    for name, content in (("empty", b""), ("noise", b"\0" * 99), ("zip", b"PK\x03\x04" + b"\0" * 40)):
        (tmp_path / name).write_bytes(content)
        assert answer(tmp_path / name) is False
    assert answer(tmp_path) is False
    assert answer(tmp_path / "absent") is False


def test_applications_without_a_top_leave_them_open_where_nobody_says():
    digests = FileDigests()
    no_top = Application(application="MobileNetV2", weights=None, include_top=False)
    assert may_leave_sizes_open(no_top, {}, digests)
    assert not may_leave_sizes_open(no_top.model_copy(update={"input_shape": (64, 64, 3)}), {}, digests)
    assert not may_leave_sizes_open(no_top.model_copy(update={"include_top": True}), {}, digests)


def test_tensorflow_is_not_imported(keras2, tmp_path):
    made(keras2, (None, 4)).save(tmp_path / "m.keras")
    code = (
        "import sys; from pathlib import Path; from pipeline.store.file_digests import FileDigests\n"
        "from stages.load.open_sizes import may_leave_sizes_open as may\n"
        "assert may(None, {'file': Path(sys.argv[1])}, FileDigests())\n"
        "assert not {'tensorflow', 'numpy', 'h5py'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.keras"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
