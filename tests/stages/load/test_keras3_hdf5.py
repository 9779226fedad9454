"""Load `.h5` files of Keras 3 that Keras 3 itself can't read, or reads as another model."""

import h5py
import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.load import load_model
from stages.load.keras3_hdf5 import with_modules

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]
CLOSE = 1e-6
FEATURES = 6


def between_layers(function):
    """Return what builds a model with an operation between two layers."""

    def build(keras):
        given = keras.Input((FEATURES,))
        return keras.Model(given, keras.layers.Dense(2)(function(keras, keras.layers.Dense(8)(given))))

    return build


def normalization(keras):
    adapted = keras.layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(3, 5, (20, FEATURES)))
    given = keras.Input((FEATURES,))
    return keras.Model(given, keras.layers.Dense(2)(keras.ops.tanh(adapted(given))))


def nested(keras):
    inside = keras.Input((FEATURES,))
    inner = keras.Model(inside, keras.ops.relu(keras.layers.Dense(FEATURES)(inside)) + 1.0, name="inner")
    given = keras.Input((FEATURES,))
    return keras.Sequential([given, keras.Model(given, inner(inner(given))), keras.layers.Dense(2)])


def shared(keras):
    given, dense = keras.Input((FEATURES,)), keras.layers.Dense(FEATURES)
    return keras.Model(given, keras.layers.Dense(2)(dense(keras.ops.relu(dense(given)))))


def two_inputs_and_outputs(keras):
    left, right = keras.Input((FEATURES,)), keras.Input((FEATURES,))
    one, two = keras.layers.Dense(4)(left), keras.layers.Dense(4)(right)
    return keras.Model([left, right], [keras.layers.Dense(2)(one + two), keras.ops.gelu(one - two)])


def layers_and_operations_of_one_name(keras):
    given = keras.Input((FEATURES,))
    one, two = keras.layers.Dense(4)(given), keras.layers.Dense(4)(given)
    layer = keras.layers.Reshape((2, 2))(keras.layers.Add()([one, two]))
    return keras.Model(given, layer + keras.ops.reshape(keras.ops.maximum(one, two), (-1, 2, 2)))


def over_two_axes(keras):
    given = keras.Input((FEATURES, 3))
    return keras.Model(given, keras.layers.Softmax(axis=[1, 2])(given))


def of_unit_norm_over_two_axes(keras):
    given = keras.Input((FEATURES, 3))
    return keras.Model(given, keras.layers.UnitNormalization(axis=[1, 2])(given))


def normalized_over_two_axes(keras):
    given = keras.Input((FEATURES, 3))
    return keras.Model(given, keras.layers.LayerNormalization(axis=[1, 2])(given))


def masked(keras):
    steps = keras.Input((5, FEATURES))
    return keras.Model(steps, keras.ops.relu(keras.layers.LSTM(3)(keras.layers.Masking()(steps))))


def check(keras, model, path, **settings):
    """Save the model, load it, and compare outputs with those of the model that was saved."""
    rng = np.random.default_rng(1)
    for variable in model.trainable_weights:
        variable.assign(rng.normal(0, 0.5, tuple(variable.shape)))
    model.save(path)
    loaded = load_model(path, **settings)
    x = [rng.normal(size=(3, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]
    x = x[0] if len(x) == 1 else x
    wanted = [np.asarray(tensor) for tensor in keras.tree.flatten(model(x, training=False))]
    found = [np.asarray(tensor) for tensor in keras.tree.flatten(loaded.model(x, training=False))]
    for one, other in zip(wanted, found, strict=True):
        assert np.abs(one).max() > 0
        assert np.abs(one - other).max() <= CLOSE * np.abs(one).max()
    assert loaded.translation_difference <= CLOSE


@pytest.mark.parametrize(
    "build",
    [
        between_layers(lambda k, x: k.ops.relu(x)),
        between_layers(lambda k, x: k.ops.gelu(x)),
        between_layers(lambda k, x: k.ops.silu(x)),
        between_layers(lambda k, x: k.ops.mean(x, axis=-1, keepdims=True)),
        between_layers(lambda k, x: x + 1.0),
        between_layers(lambda k, x: 1.0 - x),
        between_layers(lambda k, x: x[..., 2:]),
        between_layers(lambda k, x: x * np.arange(8, dtype="float32")),
        normalization,
        nested,
        shared,
        two_inputs_and_outputs,
        layers_and_operations_of_one_name,
        over_two_axes,
        of_unit_norm_over_two_axes,
        normalized_over_two_axes,
        masked,
    ],
)
def test_outputs_are_those_of_the_model_that_was_saved(keras3, tmp_path, build):
    check(keras3, build(keras3), tmp_path / "m.h5")


def test_code_beside_an_operation_needs_trust(keras3, tmp_path):
    given, path = keras3.Input((FEATURES,)), tmp_path / "m.h5"
    model = keras3.Model(given, keras3.ops.relu(keras3.layers.Lambda(lambda x: x * 2.0, name="double")(given)))
    check(keras3, model, path, trust=True)
    with pytest.raises(ModelError, match="the layer 'double' holds Python code"):
        load_model(path)


def test_weights_that_are_not_the_models_are_said_to_be_so(keras3, tmp_path):
    path = tmp_path / "m.h5"
    between_layers(lambda k, x: k.ops.relu(x))(keras3).save(path)
    with h5py.File(path, "r+") as file:
        del file["model_weights"]
    with pytest.raises(ModelError, match="the weights don't fit the model") as caught:
        load_model(path)
    assert caught.value.where == str(path)


def test_only_what_is_keras_own_gets_a_module(keras3):
    layer, operation = {"trainable": True}, {"name": "it"}
    names = {"Add": operation, "Relu": operation, "Mine": layer, "Dense": layer}
    entries = [{"class_name": name, "config": config} for name, config in names.items()]
    entries += [{"class_name": "Add", "config": layer}, {"class_name": "Relu", "config": layer, "module": "theirs"}]
    found = with_modules({"class_name": "Functional", "config": {"layers": entries}}, keras3, {"Dense"})
    assert found["module"] == "keras.src.models.functional"
    modules = [entry.get("module") for entry in found["config"]["layers"]]
    assert modules == ["keras.src.ops.numpy", "keras.src.ops.nn", None, None, "keras.layers", "theirs"]
