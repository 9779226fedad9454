import numpy as np
import pytest

from pipeline.errors import ModelError
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
