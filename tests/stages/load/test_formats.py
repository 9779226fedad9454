import json
import zipfile

import numpy as np
import pytest

from pipeline.errors import ModelError, RecipeError
from stages.load import load_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),  # Keras 3, saving
]
CLOSE = 1e-5


def saved(model, path):
    model.save(path)
    return path


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_files_of_both_keras_load_with_equal_outputs_whatever_they_are_called(
    either_keras, residual, outputs, tmp_path, suffix
):
    model = residual(either_keras)
    path = saved(model, tmp_path / f"m.{suffix}").rename(tmp_path / "model_of_tuesday")
    loaded = load_model(path)
    assert type(loaded.model).__module__.startswith("tf_keras")
    assert np.abs(outputs(loaded.model) - outputs(model)).max() <= CLOSE
    assert loaded.translation_difference <= CLOSE
    assert loaded.source == str(path)
    assert [layer.name for layer in loaded.model.layers] == [layer.name for layer in model.layers]


@pytest.mark.parametrize("weights", ["w.weights.h5", "w.h5"])
def test_an_architecture_in_json_with_its_weights(either_keras, keras3, residual, outputs, tmp_path, weights):
    model, path = residual(either_keras), tmp_path / "m.json"
    path.write_text(model.to_json())
    save = model.save if either_keras is keras3 and weights == "w.h5" else model.save_weights
    save(tmp_path / weights)
    loaded = load_model({"path": str(path), "weights": str(tmp_path / weights)})
    assert np.abs(outputs(loaded.model) - outputs(model)).max() <= CLOSE


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.json", "saved"])
def test_normalization_computes_with_the_statistics_it_was_adapted_to(either_keras, keras2, keras3, tmp_path, name):
    if name == "saved" and either_keras is keras3:
        either_keras = keras2  # Keras 3 exports no layers
    data = np.random.default_rng(0).normal(3, 5, (20, 4)).astype("float32")
    norm = either_keras.layers.Normalization(name="norm")
    norm.adapt(data)
    model = either_keras.Sequential([either_keras.Input((4,)), norm, either_keras.layers.Dense(2)])
    given = {}
    if name == "m.json":
        (tmp_path / name).write_text(model.to_json())
        given = {"weights": tmp_path / "w.weights.h5"}
        model.save_weights(given["weights"])
    else:
        model.save(tmp_path / name, **({"save_format": "tf"} if name == "saved" else {}))
    loaded = load_model(tmp_path / name, **given).model
    assert np.allclose(loaded(data), model(data), atol=1e-5)


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


def test_a_subclassed_model_and_one_without_shapes_are_no_graphs(keras2, tmp_path):
    class Own(keras2.Model):
        def call(self, x):
            return x

    model = Own()
    model(np.zeros((1, 2)))
    path = saved(model, tmp_path / "own.keras")
    with pytest.raises(ModelError, match=r"names the class Own of .*: if it is yours"):
        load_model(path)
    with pytest.warns(UserWarning, match="not yet been built"):
        path = saved(keras2.Sequential([keras2.layers.Dense(2)]), tmp_path / "open.keras")
    with pytest.raises(ModelError, match="without its input shape"):
        load_model(path)


SMALL = {"application": "MobileNetV2", "include_top": False, "input_shape": [32, 32, 3], "head": {"classes": 5}}


def test_an_application_is_built_with_its_head():
    loaded = load_model(SMALL | {"weights": None})
    assert loaded.model.output_shape == (None, 5)
    assert loaded.model.layers[-1].name == "head"


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_an_application_takes_weights_of_either_keras(either_keras, keras3, tmp_path, suffix):
    base = either_keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3))
    save = base.save if either_keras is keras3 and suffix == ".h5" else base.save_weights
    save(tmp_path / f"w{suffix}")
    loaded = load_model(SMALL | {"weights": str(tmp_path / f"w{suffix}")})
    kernel = loaded.model.get_layer("Conv_1").kernel.numpy()
    assert np.array_equal(kernel, np.asarray(base.get_layer("Conv_1").kernel))
    assert loaded.translation_difference <= CLOSE


def test_an_application_refuses_weights_that_do_not_fit(keras2, residual, tmp_path):
    residual(keras2).save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ModelError, match="the weights don't fit"):
        load_model(SMALL | {"weights": str(tmp_path / "w.weights.h5")})


def test_an_application_that_does_not_exist_has_a_nearest_name():
    with pytest.raises(RecipeError) as caught:
        load_model({"application": "MobilNetV2", "weights": None})
    assert "MobileNetV2" in caught.value.hint


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


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_outputs_by_name_or_in_groups_come_as_a_list_in_keras_own_order(either_keras, tmp_path, suffix):
    given = either_keras.Input((4,))
    hidden = either_keras.layers.Dense(3, name="hidden")(given)
    last = either_keras.layers.Dense(2, name="last")(hidden)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    for number, asked in enumerate(({"z": last, "a": hidden}, [last, [hidden]])):
        model = either_keras.Model(given, asked)
        loaded = load_model(saved(model, tmp_path / f"{number}.{suffix}")).model
        wanted, found = model(x), loaded(x)
        first, second = (wanted["a"], wanted["z"]) if number == 0 else (wanted[0], wanted[1][0])
        assert isinstance(found, list)
        assert np.abs(np.asarray(found[0]) - np.asarray(first)).max() <= CLOSE
        assert np.abs(np.asarray(found[1]) - np.asarray(second)).max() <= CLOSE
