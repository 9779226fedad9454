import numpy as np
import pytest

from pipeline.errors import ModelError, PostconditionError
from stages.keras.tensorflow import import_tensorflow
from stages.load import load_model

CLOSE = 1e-5
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@pytest.fixture
def folder(keras2, residual, tmp_path):
    """Make a SavedModel folder of tf_keras, and return it with the model in it."""
    model = residual(keras2)
    model.save(tmp_path / "saved", save_format="tf")
    return tmp_path / "saved", model


def test_a_keras_folder_is_rebuilt_layer_by_layer(folder, outputs):
    path, model = folder
    loaded = load_model(path)
    assert np.array_equal(outputs(loaded.model), outputs(model))
    assert [layer.name for layer in loaded.model.layers] == [layer.name for layer in model.layers]
    assert loaded.translation_difference <= CLOSE
    assert loaded.model.get_config() == model.get_config()


def test_several_inputs_and_outputs_and_a_sequential_model(keras2, tmp_path):
    layers = keras2.layers
    one, two = keras2.Input((3,), name="one"), keras2.Input((4,), name="two")
    x = layers.Concatenate()([layers.Dense(2)(one), two])
    keras2.Model([one, two], [layers.Dense(2, name="b")(x), layers.Dense(3, name="a")(x)]).save(
        tmp_path / "two", save_format="tf"
    )
    assert load_model(tmp_path / "two").translation_difference <= CLOSE
    keras2.Sequential([keras2.Input((3,)), layers.Dense(2)]).save(tmp_path / "row", save_format="tf")
    assert load_model(tmp_path / "row").translation_difference <= CLOSE


def test_a_plain_folder_has_no_layers_but_weights_for_an_architecture(keras2, residual, outputs, tmp_path):
    model = residual(keras2)
    import_tensorflow().saved_model.save(model, str(tmp_path / "plain"))
    with pytest.raises(ModelError, match="holds no layers, only a graph of operations") as caught:
        load_model(tmp_path / "plain")
    assert "architecture.json" in caught.value.hint
    (tmp_path / "m.json").write_text(model.to_json())
    loaded = load_model(tmp_path / "m.json", weights=tmp_path / "plain")
    assert np.array_equal(outputs(loaded.model), outputs(model))
    other = keras2.Sequential([keras2.Input((3,)), keras2.layers.Dense(2)])
    (tmp_path / "m.json").write_text(other.to_json())
    with pytest.raises(ModelError, match="weights don't fit"):
        load_model(tmp_path / "m.json", weights=tmp_path / "plain")


def test_a_folder_exported_by_keras_3_has_no_layers(keras3, tmp_path):
    model = keras3.Sequential([keras3.Input((3,)), keras3.layers.Dense(2)])
    model.export(tmp_path / "exported", verbose=False)
    with pytest.raises(ModelError, match="holds no layers"):
        load_model(tmp_path / "exported")


def test_a_subclassed_model_is_no_graph(keras2, tmp_path):
    class Own(keras2.Model):
        def call(self, x):
            return x * 2.0

    model = Own()
    model(np.zeros((1, 2), "float32"))
    model.save(tmp_path / "own", save_format="tf")
    with pytest.raises(ModelError, match="subclassed model"):
        load_model(tmp_path / "own")


@pytest.mark.parametrize("name", ["keras_metadata.pb", "saved_model.pb", "variables/variables.index"])
def test_parts_that_are_damaged(folder, name):
    path, _ = folder
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(path) in caught.value.where


def test_weights_that_are_missing(folder):
    path, _ = folder
    (path / "variables" / "variables.data-00000-of-00001").unlink()
    with pytest.raises(ModelError, match="weights don't fit"):
        load_model(path)


def test_links_in_the_folder_are_refused(folder):
    path, _ = folder
    (path / "assets" / "linked").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="a link or a special file"):
        load_model(path)


def test_a_lambda_in_the_folder_is_refused(keras2, tmp_path):
    inputs = keras2.Input((3,))
    model = keras2.Model(inputs, keras2.layers.Lambda(lambda x: x * 2, name="evil")(inputs))
    model.save(tmp_path / "saved", save_format="tf")
    with pytest.raises(ModelError, match="'evil' holds Python code"):
        load_model(tmp_path / "saved")


def test_a_graph_that_writes_files_is_not_run(folder, keras2, tmp_path):
    """The description is of a harmless model, but the graph is another: it must not run for the comparison."""
    tf, (path, _), marker = import_tensorflow(), folder, tmp_path / "written"

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3))])
        def serve(self, image):
            tf.io.write_file(str(marker), "x")
            return {"head": tf.zeros((4, 4))}

    evil = Evil()
    tf.saved_model.save(evil, str(tmp_path / "evil"), signatures={"serving_default": evil.serve})
    (path / "saved_model.pb").write_bytes((tmp_path / "evil" / "saved_model.pb").read_bytes())
    marker.unlink(missing_ok=True)
    with pytest.raises(ModelError, match="operation WriteFile, which may do more than compute"):
        load_model(path)
    assert not marker.exists()


def test_a_graph_that_computes_something_else_is_found(folder, tmp_path):
    tf, (path, _) = import_tensorflow(), folder

    class Other(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), name="image")])
        def serve(self, image):
            return {"head": tf.reduce_mean(image) + tf.ones((4, 4))}

    other = Other()
    tf.saved_model.save(other, str(tmp_path / "other"), signatures={"serving_default": other.serve})
    (path / "saved_model.pb").write_bytes((tmp_path / "other" / "saved_model.pb").read_bytes())
    with pytest.raises((PostconditionError, ModelError)) as caught:
        load_model(path)
    assert str(path) in caught.value.where
