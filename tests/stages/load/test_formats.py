import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ModelError, RecipeError
from stages.load import load_model
from stages.tf_runtime import import_keras


def small():
    keras = import_keras()
    inputs = keras.Input((6, 6, 2), name="image")
    x = keras.layers.Conv2D(3, 3, activation="relu", name="conv")(inputs)
    outputs = keras.layers.Dense(4, activation="softmax", name="head")(keras.layers.Flatten(name="flat")(x))
    return keras.Model(inputs, outputs, name="small")


@pytest.fixture
def saved(tmp_path):
    def save(name, model=None):
        import_keras().models.save_model(model or small(), tmp_path / name)
        return tmp_path / name

    return save


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
def test_both_kinds_of_file_load_with_equal_outputs_whatever_they_are_called(saved, name):
    model = small()
    path = saved(name, model)
    renamed = path.rename(path.with_name("model_of_tuesday"))
    loaded = load_model(renamed)
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    assert np.array_equal(loaded.model(x), model(x))
    assert loaded.source == str(renamed)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_a_file_cut_short_is_said_to_be_so(saved, name, part):
    path = saved(name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "damaged" in caught.value.what
    assert str(path) in caught.value.where


def test_a_flipped_byte_in_the_archive_is_found(saved):
    path = saved("m.keras")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1c\x00\x00\x00TFL3"])
def test_other_files_are_no_models(tmp_path, content):
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(ModelError, match="no Keras model file"):
        load_model(tmp_path / "m.keras")


def test_paths_that_are_not_there_and_folders(tmp_path):
    with pytest.raises(RecipeError, match="not there"):
        load_model(tmp_path / "none.keras")
    with pytest.raises(ModelError, match="folder"):
        load_model(tmp_path)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
def test_code_in_a_file_is_refused_and_never_runs(saved, name, tmp_path):
    keras = import_keras()
    marker = tmp_path / "ran"
    inputs = keras.Input((4,))
    outputs = keras.layers.Lambda(lambda x, path=str(marker): (Path(path).touch(), x)[1], name="evil")(inputs)
    path = saved(name, keras.Model(inputs, outputs))
    marker.unlink()
    with pytest.raises(ModelError, match="'evil' holds Python code"):
        load_model(path)
    assert not marker.exists()


def test_weights_alone_are_told_from_a_model(tmp_path):
    small().save_weights(tmp_path / "w.h5")
    with pytest.raises(ModelError, match="model_config is missing"):
        load_model(tmp_path / "w.h5")


def test_a_file_of_keras_3_is_named_as_such(saved):
    path = saved("m.keras")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["metadata.json"] = json.dumps({"keras_version": "3.15.1"}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(ModelError, match=r"written by Keras 3\.15\.1"):
        load_model(path)


def test_an_application_is_built_with_its_head():
    spec = {
        "application": "MobileNetV2",
        "weights": None,
        "include_top": False,
        "input_shape": [32, 32, 3],
        "head": {"classes": 5},
    }
    loaded = load_model(spec)
    assert loaded.model.output_shape == (None, 5)
    assert loaded.model.layers[-1].name == "head"


def test_an_application_that_does_not_exist_has_a_nearest_name():
    with pytest.raises(RecipeError) as caught:
        load_model({"application": "MobilNetV2", "weights": None})
    assert "MobileNetV2" in caught.value.hint
