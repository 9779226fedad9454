import subprocess
import sys

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.flatten import flattened
from stages.keras.normal_form import copy_model, decode_model, encode_model, keras_facts
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.load import load_model


def small(seed=0):
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.SeparableConv2D(4, 3, padding="same", name="sep")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Add(name="add")([x, keras.layers.Conv2D(4, 1, name="short")(inputs)])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x), name="small")


def test_bytes_are_equal_after_reloading_training_settings_and_twice(tmp_path):
    model = small()
    data = encode_model(model)
    (tmp_path / "blob").write_bytes(data)
    again = decode_model(tmp_path / "blob")
    assert encode_model(model) == data
    assert encode_model(again) == data
    again.compile("adam", "mse")
    assert encode_model(again) == data


def test_bytes_are_equal_in_another_process(tmp_path):
    (tmp_path / "blob").write_bytes(encode_model(small()))
    code = (
        "import sys, hashlib; from pathlib import Path; from stages.keras.normal_form import *\n"
        "print(hashlib.sha256(encode_model(decode_model(Path(sys.argv[1])))).hexdigest())"
    )
    command = [sys.executable, "-c", code, tmp_path / "blob"]
    environment = {"PYTHONHASHSEED": "5"}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()
    import hashlib

    assert found == hashlib.sha256((tmp_path / "blob").read_bytes()).hexdigest()


def test_one_weight_changes_the_bytes():
    model = small()
    data = encode_model(model)
    weights = model.get_weights()
    weights[0][0, 0, 0, 0] += 1e-3
    model.set_weights(weights)
    assert encode_model(model) != data


def test_a_copy_shares_nothing_and_keeps_what_is_trainable():
    model = small()
    model.get_layer("bn").trainable = False
    copy = copy_model(model)
    copy.set_weights([w * 0 for w in copy.get_weights()])
    assert all(np.any(w) for w in model.get_layer("head").get_weights()[:1])
    assert not copy.get_layer("bn").trainable
    assert copy.get_layer("sep").trainable


def test_facts_are_those_of_the_model():
    facts = keras_facts(small())
    separable = 8 * 8 * (3 * 3 * 3 + 3 * 4)
    assert facts.macs == separable + 8 * 8 * 3 * 4 + 4 * 3
    assert facts.params == (27 + 12 + 4) + 16 + (12 + 4) + (12 + 3)
    assert facts.inputs[0].shape == (None, 8, 8, 3)
    assert facts.outputs[0].shape == (None, 3)
    assert facts.sparsity == 0.0


def test_code_that_was_let_in_survives_every_copy(tmp_path):
    keras = import_keras()
    part = keras.Sequential([keras.Input((6,)), keras.layers.Lambda(lambda x: x * 2.0 + 1.0)])
    inputs = keras.Input((4, 6), name="x")
    y = keras.layers.TimeDistributed(part)(keras.layers.Dense(6, name="wide")(inputs))
    keras.Model(inputs, keras.layers.Dense(2, name="y")(y)).save(tmp_path / "own.keras")
    model = load_model(tmp_path / "own.keras", trust=True).model
    x = np.random.default_rng(0).standard_normal((3, 4, 6)).astype(np.float32)
    expected = np.asarray(model(x))
    copied = copy_model(model)
    (tmp_path / "stored").write_bytes(encode_model(copied))
    for each in (copied, decode_model(tmp_path / "stored"), flattened(model)):
        np.testing.assert_allclose(np.asarray(each(x)), expected, atol=1e-6)
    with pytest.raises(ModelError, match="holds Python code"):
        load_model(tmp_path / "own.keras")


def test_an_output_of_no_known_rank_is_refused_in_words():
    keras, tf = import_keras(), import_tensorflow()
    inputs = keras.Input((1, 3), name="x")
    with pytest.raises(ModelError, match=r"how many axes '.*squeeze.*' has is not known") as refused:
        keras_facts(keras.Model(inputs, tf.squeeze(inputs * 2.0)))
    assert "without axes" in refused.value.hint


def test_damaged_bytes_are_a_model_error(tmp_path):
    (tmp_path / "blob").write_bytes(encode_model(small())[:1000])
    with pytest.raises(ModelError, match="can't be rebuilt"):
        decode_model(tmp_path / "blob")


@pytest.mark.parametrize("inside", ["Flatten", "Conv2D"])
def test_copies_of_copies_of_layers_at_each_step_run(inside):
    keras = import_keras()
    layers = keras.layers
    layer = layers.Flatten() if inside == "Flatten" else layers.Conv2D(2, 3)
    inputs = keras.Input((4, 5, 5, 2))
    model = keras.Model(
        inputs,
        layers.Bidirectional(layers.LSTM(3))(
            layers.TimeDistributed(layers.Flatten())(layers.TimeDistributed(layer)(inputs))
        ),
    )
    x = np.ones((2, 4, 5, 5, 2), "float32")
    again = copy_model(copy_model(copy_model(model)))
    assert np.array_equal(again(x, training=True), model(x, training=True))
    assert encode_model(again) == encode_model(model)
