"""Translate layers of Keras 3 and compare them with Keras 3's results; and test those that can't be."""

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
IMAGE = (8, 8, 4)
LAYERS = {
    "Conv2DTranspose": (IMAGE, lambda k: k.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "grouped": (IMAGE, lambda k: k.Conv2D(6, 3, groups=2, dilation_rate=2)),
    "SeparableConv2D": (IMAGE, lambda k: k.SeparableConv2D(3, 3, depth_multiplier=2)),
    "LeakyReLU": (IMAGE, lambda k: k.LeakyReLU(0.1)),
    "PReLU": (IMAGE, lambda k: k.PReLU(shared_axes=[1, 2])),
    "LayerNormalization": (IMAGE, lambda k: k.LayerNormalization(axis=[2, 3])),
    "GroupNormalization": (IMAGE, lambda k: k.GroupNormalization(2)),
    "Normalization": (IMAGE, lambda k: k.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 3.0, 4.0])),
    "Resizing": (IMAGE, lambda k: k.Resizing(5, 6, interpolation="nearest")),
    "UpSampling2D": (IMAGE, lambda k: k.UpSampling2D(2, interpolation="bilinear")),
    "ZeroPadding2D": (IMAGE, lambda k: k.ZeroPadding2D(((0, 1), (2, 0)))),
    "augmentation": (IMAGE, lambda k: k.RandomFlip("horizontal", seed=1)),
    "regularized": (IMAGE, lambda k: k.Conv2D(3, 1, kernel_regularizer="l2", kernel_constraint="max_norm")),
    "LSTM": ((6, 4), lambda k: k.LSTM(3, return_sequences=True)),
    "GRU": ((6, 4), lambda k: k.GRU(3)),
    "Bidirectional": ((6, 4), lambda k: k.Bidirectional(k.LSTM(3))),
    "TimeDistributed": ((6, 4), lambda k: k.TimeDistributed(k.Dense(3, activation="tanh"))),
    "EinsumDense": ((6, 4), lambda k: k.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d")),
    "Conv1D": ((6, 4), lambda k: k.Conv1D(3, 3, padding="causal")),
}
ACTIVATIONS = ("hard_sigmoid", "relu6", "leaky_relu", "hard_silu", "log_softmax", "silu", "gelu", "mish", "hard_tanh")


@pytest.mark.parametrize("name", LAYERS)
def test_layers(keras3, carried, name):
    shape, make = LAYERS[name]
    inputs = keras3.Input(shape)
    assert carried(inputs, make(keras3.layers)(inputs)).input_shape == (None, *shape)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "log_sigmoid"])
def test_activations_that_have_one_name_and_two_meanings(keras3, carried, name):
    inputs = keras3.Input((5,))
    assert carried(inputs, keras3.layers.Dense(6, activation=name)(inputs)).output_shape == (None, 6)


def test_attention_embedding_and_integers(keras3, carried):
    layers, tokens = keras3.layers, keras3.Input((6,), dtype="int32")
    x = layers.Embedding(7, 8)(tokens)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    made = carried(tokens, layers.Dense(2)(layers.LayerNormalization()(x)), integers=True)
    assert made.input.dtype == "int32"


def test_both_directions_are_one_setting_unless_they_differ(keras3, carried):
    layers, inputs = keras3.layers, keras3.Input((6, 4))
    assert not hasattr(carried(inputs, layers.Bidirectional(layers.GRU(3))(inputs)).layers[1], "_backward_layer_config")
    apart = layers.Bidirectional(layers.GRU(3), backward_layer=layers.GRU(2, go_backwards=True))
    assert hasattr(carried(inputs, apart(inputs)).layers[1], "_backward_layer_config")


def test_mixed_precision_keeps_its_policies(keras3, tmp_path):
    inputs = keras3.Input((5,))
    x = keras3.layers.Dense(4, dtype="mixed_float16", name="half")(inputs)
    keras3.Model(inputs, keras3.layers.Dense(2, dtype="float32", name="whole")(x)).save(tmp_path / "m.keras")
    model = load_model(tmp_path / "m.keras").model
    assert [model.get_layer(n).dtype_policy.name for n in ("half", "whole")] == ["mixed_float16", "float32"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda k, x: k.layers.LSTM(3, recurrent_activation="hard_sigmoid", name="odd")(x), "activation hard_sigmoid"),
        (lambda k, x: k.layers.LSTM(3, recurrent_activation="hard_sigmoid", name="odd")(x), "it has control flow"),
        (
            lambda k, x: k.layers.Resizing(3, 3, antialias=True, name="odd")(k.ops.expand_dims(x, -1)),
            "antialias = True",
        ),
        (lambda k, x: k.ops.ctc_decode(x, np.array([4, 3], "int32")), "no public function for CTCGreedyDecoder"),
    ],
)
def test_what_can_not_be_represented_is_refused_by_name(keras3, tmp_path, make, words):
    inputs = keras3.Input((6, 4))
    model = keras3.Model(inputs, make(keras3, inputs))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "m.keras")
    assert words in caught.value.what
    assert "'odd'" in caught.value.what or "'ctc_decode'" in caught.value.what
    assert caught.value.where.startswith(str(tmp_path / "m.keras"))
