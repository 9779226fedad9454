import json
import zipfile

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.load import load_model
from stages.load.stored import open_stored, read_model

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


def test_whoever_reads_an_h5_file_of_keras3_gets_the_model_that_was_saved(keras3, tmp_path):
    given = keras3.Input((6, 3))
    path = saved(keras3.Model(given, keras3.layers.Softmax(axis=[1, 2])(given)), tmp_path / "m.h5")
    model = read_model(open_stored(path, "h5"), keras3, {}, trust=False)
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    assert np.allclose(np.asarray(model(x)).sum(axis=(1, 2)), 1)  # over both axes: Keras 3 itself drops them


def at_depth(frames, call):
    return at_depth(frames - 1, call) if frames else call()


def test_layers_and_callers_may_be_more_than_the_frames_that_python_permits(keras, tmp_path):
    """Keras visits a graph by recursion: ResNetRS270 needs nearly all of the 1,000 frames without any caller."""
    x = image = keras.Input((3,))
    for _ in range(150):
        x = keras.layers.Activation("tanh")(x)
    model = keras.Model(image, keras.layers.Dense(2)(x))
    model.save(tmp_path / "deep.keras")
    loaded = at_depth(850, lambda: load_model(tmp_path / "deep.keras").model)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
