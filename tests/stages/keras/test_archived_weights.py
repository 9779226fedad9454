import zipfile
from pathlib import Path

import numpy as np
import pytest
from tf_keras.src.saving import saving_lib

from stages.keras.archived_weights import weights_apart
from stages.keras.tensorflow import import_keras


@pytest.fixture
def saved(tmp_path):
    keras = import_keras()
    vector = keras.Input((4,))
    model = keras.Model(vector, keras.layers.Dense(2)(keras.layers.Dense(3)(vector)))
    model.save(tmp_path / "model.keras")
    return model, tmp_path / "model.keras"


def test_weights_are_read_without_going_back_inside_the_archive(saved, monkeypatch):
    model, path = saved

    def back(self, offset, whence=0):
        raise AssertionError("a member of the archive was read back and forth")

    monkeypatch.setattr(zipfile.ZipExtFile, "seek", back)
    load = import_keras().models.load_model
    with pytest.raises(AssertionError, match="back and forth"):  # what it is for
        load(path, compile=False)
    with weights_apart():
        loaded = load(path, compile=False)
    for found, own in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, own)


def test_tf_keras_is_as_it_was_afterwards(saved):
    own = saving_lib.H5IOStore
    with pytest.raises(OSError, match="No file or directory"), weights_apart():
        import_keras().models.load_model(saved[1].with_name("absent.keras"))
    assert saving_lib.H5IOStore is own


def test_of_weights_that_cannot_be_read_no_file_stays_open(saved, tmp_path):
    with zipfile.ZipFile(saved[1]) as archive, zipfile.ZipFile(tmp_path / "damaged.keras", "w") as damaged:
        for name in archive.namelist():
            damaged.writestr(name, archive.read(name)[:200] if name.endswith(".h5") else archive.read(name))
    before = open_files()
    with pytest.raises(OSError, match="truncated file") as kept, weights_apart():
        import_keras().models.load_model(tmp_path / "damaged.keras", compile=False)
    assert kept.value  # holds the frames of tf_keras, and what they hold
    assert not {name for name in open_files() - before if "secateur-" in name}


def open_files():
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
