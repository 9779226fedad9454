import json
import zipfile

import pytest

from pipeline.errors import ModelError
from stages.load import load_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),  # Keras 3, saving
]


def saved(model, path):
    model.save(path)
    return path


def test_weights_of_another_model_are_refused(keras2, residual, tmp_path):
    (tmp_path / "m.json").write_text(residual(keras2).to_json())
    keras2.Sequential([keras2.Input((3,)), keras2.layers.Dense(2)]).save_weights(tmp_path / "w.h5")
    with pytest.raises(ModelError, match="the weights don't fit") as caught:
        load_model(tmp_path / "m.json", weights=tmp_path / "w.h5")
    assert caught.value.where == str(tmp_path / "w.h5")
    (tmp_path / "t.h5").write_text("text")
    with pytest.raises(ModelError, match="no weights of Keras"):
        load_model(tmp_path / "m.json", weights=tmp_path / "t.h5")


def test_json_and_weights_need_each_other(keras2, residual, tmp_path):
    model = residual(keras2)
    (tmp_path / "m.json").write_text(model.to_json())
    with pytest.raises(ModelError, match="has no weights"):
        load_model(tmp_path / "m.json")
    path = saved(model, tmp_path / "m.keras")
    with pytest.raises(ModelError, match="holds weights itself"):
        load_model(path, weights=path)
    for text in ("{}", '{"class_name": 5}', '{"config": "x"}'):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(ModelError, match="describes no model"):
            load_model(tmp_path / "m.json", weights=path)
    (tmp_path / "m.json").write_text('{"class_name": "Seq')
    with pytest.raises(ModelError, match="damaged or cut short"):
        load_model(tmp_path / "m.json", weights=path)


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_weights_alone_are_told_from_a_model(keras2, residual, tmp_path, name):
    residual(keras2).save_weights(tmp_path / name)
    with pytest.raises(ModelError, match="holds weights alone") as caught:
        load_model(tmp_path / name)
    assert "application" in caught.value.hint


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_a_file_cut_short_is_said_to_be_so(either_keras, residual, tmp_path, suffix, part):
    path = saved(residual(either_keras), tmp_path / f"m.{suffix}")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ModelError, match="damaged") as caught:
        load_model(path)
    assert str(path) in caught.value.where


def test_a_flipped_byte_in_the_archive_is_found(keras2, residual, tmp_path):
    path = saved(residual(keras2), tmp_path / "m.keras")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)


def test_what_a_file_says_of_optimizers_is_never_built(keras2, residual, tmp_path):
    model = residual(keras2)
    model.compile("adam", "mse")
    path = saved(model, tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    config["compile_config"] = {"optimizer": {"class_name": "function", "module": "os", "config": "abort"}}
    entries["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    assert load_model(path).model.optimizer is None
