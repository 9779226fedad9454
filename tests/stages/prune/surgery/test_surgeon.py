import logging
import subprocess
import sys

import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.reports.command_lines import SURGEON, install
from stages.keras.channels.groups import channel_groups
from stages.keras.normal_form import decode_model, encode_model
from stages.prune.surgery.surgeon import remove_channels


def small(keras, **settings):
    vector = keras.Input((4,), name="vector")
    x = keras.layers.Dense(6, activation="relu", name="first", **settings)(vector)
    return keras.Model(vector, keras.layers.Dense(3, activation="softmax", name="head")(x), name="small")


def test_importing_kerassurgeon_leaves_the_root_logger_alone():
    code = (
        "import logging; before = logging.root.handlers[:], logging.root.level\n"
        "import stages.prune.surgery.surgeon, sys\n"
        "assert 'kerassurgeon' in sys.modules\n"
        "assert (logging.root.handlers, logging.root.level) == before, logging.root.handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert logging.root.level != logging.INFO


def test_without_kerassurgeon_the_error_names_the_command():
    code = (
        "import sys; sys.modules['kerassurgeon'] = None\n"
        "from pipeline.errors import PreconditionError\n"
        "try: import stages.prune.surgery.surgeon\n"
        "except PreconditionError as error: print(error.hint)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == install(*SURGEON)


def test_weights_are_those_that_stay(keras, randomize):
    model = randomize(small(keras))
    graph = channel_groups(model)
    keep = np.ones(graph.count, dtype=bool)
    keep[graph.prunable[0].channels[[0, 3, 4]]] = False
    pruned = remove_channels(model, graph, keep)
    stay = [1, 2, 5]
    kernel, bias = model.get_layer("first").get_weights()
    np.testing.assert_array_equal(pruned.get_layer("first").get_weights()[0], kernel[:, stay])
    np.testing.assert_array_equal(pruned.get_layer("first").get_weights()[1], bias[stay])
    np.testing.assert_array_equal(
        pruned.get_layer("head").get_weights()[0], model.get_layer("head").get_weights()[0][stay]
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_any_type_are_those_that_stay(keras, dtype):
    model = small(keras, dtype=dtype)
    graph = channel_groups(model)
    keep = np.ones(graph.count, dtype=bool)
    keep[graph.prunable[0].channels[[0, 3, 4]]] = False
    kernel = remove_channels(model, graph, keep).get_layer("first").kernel
    assert kernel.dtype.name == dtype
    np.testing.assert_array_equal(kernel.numpy(), model.get_layer("first").kernel.numpy()[:, [1, 2, 5]])


def test_the_original_is_left_alone_and_shares_nothing(keras, cut):
    model = small(keras)
    nodes = [(len(layer.inbound_nodes), len(layer.outbound_nodes)) for layer in model.layers]
    config = model.get_config()
    result = cut(model)
    assert [(len(layer.inbound_nodes), len(layer.outbound_nodes)) for layer in model.layers] == nodes
    assert model.get_config() == config
    assert not set(map(id, model.layers)) & set(map(id, result.pruned.layers))
    before = model.get_weights()
    for weight in result.pruned.weights:
        weight.assign(weight * 0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_settings_survive(keras, cut):
    model = small(keras, kernel_regularizer=keras.regularizers.L2(0.01), kernel_constraint="non_neg")
    model.get_layer("head").trainable = False
    pruned = cut(model).pruned
    assert pruned.name == "small"
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert [layer.trainable for layer in pruned.layers] == [True, True, False]
    assert float(pruned.get_layer("first").kernel_regularizer.l2) == pytest.approx(0.01)
    assert type(pruned.get_layer("first").kernel_constraint).__name__ == "NonNeg"


def test_a_sequential_model_stays_one(keras, cut):
    layers = [keras.layers.Conv2D(6, 3, name="conv"), keras.layers.Flatten(), keras.layers.Dense(2, name="head")]
    pruned = cut(keras.Sequential([keras.Input((5, 5, 1)), *layers], name="chain")).pruned
    assert type(pruned) is keras.Sequential
    assert pruned.name == "chain"
    assert [len(layer.inbound_nodes) for layer in pruned.layers] == [1, 1, 1]


def test_named_inputs_and_outputs_keep_their_structure(keras, cut):
    ends = {name: keras.Input((3,), name=name) for name in ("b", "a")}
    hidden = [keras.layers.Dense(5, name=f"hidden_{name}")(tensor) for name, tensor in ends.items()]
    joined = keras.layers.Concatenate()(hidden)
    model = keras.Model(
        ends, {"y": keras.layers.Dense(2, name="y")(joined), "z": keras.layers.Dense(1, name="z")(joined)}
    )
    pruned = cut(model).pruned
    ones = np.ones((2, 3), np.float32)
    assert {name: value.shape for name, value in pruned({"a": ones, "b": 2 * ones}).items()} == {
        "y": (2, 2),
        "z": (2, 1),
    }


def test_call_arguments_survive(keras, cut):
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(8, 3, name="conv")(image)
    norm = keras.layers.BatchNormalization(name="norm")
    x = keras.layers.GlobalAveragePooling2D()(norm(x, training=True))
    pruned = cut(keras.Model(image, keras.layers.Dense(2)(x))).pruned
    assert pruned.get_layer("norm").inbound_nodes[0].call_kwargs == {"training": True}


def test_the_result_is_stored_loaded_and_trained(keras, cut, tmp_path):
    pruned = cut(small(keras)).pruned
    data = encode_model(pruned)
    assert encode_model(pruned) == data
    (tmp_path / "stored").write_bytes(data)
    loaded = decode_model(tmp_path / "stored")
    inputs = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded(inputs), pruned(inputs))
    loaded.compile("sgd", "sparse_categorical_crossentropy")
    before = loaded.get_layer("first").get_weights()[0]
    loaded.train_on_batch(inputs, np.arange(8) % 3)
    assert (loaded.get_layer("first").get_weights()[0] != before).any()


def test_a_deep_chain_is_no_limit(keras, randomize, random_keep):
    vector = x = keras.Input((4,))
    for _ in range(400):
        x = keras.layers.ReLU()(x)
        x = keras.layers.Activation("linear")(x)
    model = randomize(keras.Model(vector, keras.layers.Dense(2)(keras.layers.Dense(4, name="hidden")(x))))
    graph = channel_groups(model)
    assert remove_channels(model, graph, random_keep(graph)).get_layer("hidden").units < 4


def test_a_layer_that_cannot_be_rebuilt_is_named(keras, random_keep):
    class Doubled(keras.layers.Layer):
        def __init__(self, factor, **settings):
            super().__init__(**settings)
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return {"name": self.name}  # but the factor is missing

    vector = keras.Input((4,))
    x = keras.layers.Dense(6)(keras.layers.Dense(5)(Doubled(2.0, name="doubled")(vector)))
    model = keras.Model(vector, x)
    graph = channel_groups(model)
    with pytest.raises(ModelError, match="can't be rebuilt") as caught:
        remove_channels(model, graph, random_keep(graph))
    assert caught.value.where == "doubled"
