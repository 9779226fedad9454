"""Translate layers and operations of Keras 3 and compare them with Keras 3's results; and test those that can't be."""

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.normal_form import copy_model
from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
CLOSE = 1e-5


@pytest.fixture
def carried(keras3, tmp_path):
    """Save a model of Keras 3 with weights unlike its initial ones, load it, and check outputs; return it."""

    def carry(inputs, result, integers=False):
        model = keras3.Model(inputs, result, name="net")
        rng = np.random.default_rng(1)
        for variable in model.weights:
            if "float" in str(variable.dtype):
                variable.assign(np.abs(rng.normal(0.5, 0.3, tuple(variable.shape))))
        model.save(tmp_path / "m.keras")
        loaded = load_model(tmp_path / "m.keras")
        shapes = [(3, *tensor.shape[1:]) for tensor in model.inputs]
        x = [rng.integers(0, 5, s) if integers else rng.normal(size=s).astype("float32") for s in shapes]
        x = x[0] if len(x) == 1 else x
        theirs = [np.asarray(t) for t in keras3.tree.flatten(model(x, training=False))]
        for again in (loaded.model, copy_model(loaded.model)):
            ours = again(x, training=False)
            for a, b in zip(theirs, ours if isinstance(ours, list) else [ours], strict=True):
                assert np.abs(a - b).max() <= CLOSE * max(np.abs(a).max(), 1e-3)
        assert 0 <= loaded.translation_difference <= CLOSE
        return loaded.model

    return carry


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


@pytest.mark.parametrize(
    "function",
    [
        lambda k, x: x + 3.0,
        lambda k, x: 1.0 - x * x / 2.0,
        lambda k, x: -(x**2),
        lambda k, x: x + k.ops.mean(x, axis=[1, 2], keepdims=True),
        lambda k, x: k.ops.max(x, axis=-1),
        lambda k, x: k.ops.transpose(x, (0, 3, 1, 2)),
        lambda k, x: k.ops.reshape(x, (-1, 8, 32)),
        lambda k, x: k.ops.concatenate([x, k.ops.relu(x)], axis=-1),
        lambda k, x: k.ops.squeeze(k.ops.expand_dims(x, 1), 1),
        lambda k, x: x[:, ::2, 1:, :3],
        lambda k, x: x[..., 0],
        lambda k, x: k.ops.split(x, 2, axis=-1)[1],
        lambda k, x: k.ops.clip(x, -0.5, 0.5),
        lambda k, x: k.ops.softmax(x, axis=1),
        lambda k, x: k.ops.gelu(x),
        lambda k, x: k.ops.leaky_relu(x, 0.3),
        lambda k, x: k.ops.hard_sigmoid(x),
        lambda k, x: k.ops.sqrt(k.ops.abs(x)) + k.ops.exp(x) + k.ops.tanh(x) + k.ops.silu(x),
        lambda k, x: k.ops.matmul(x, k.ops.transpose(x, (0, 1, 3, 2))),
        lambda k, x: k.ops.cast(x, "float16"),
        lambda k, x: k.ops.stack([x, x], axis=2),
    ],
)
def test_operations_between_layers(keras3, carried, function):
    inputs = keras3.Input(IMAGE)
    assert carried(inputs, function(keras3, inputs)).input_shape == (None, *IMAGE)


def test_attention_embedding_and_integers(keras3, carried):
    layers, tokens = keras3.layers, keras3.Input((6,), dtype="int32")
    x = layers.Embedding(7, 8)(tokens)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    made = carried(tokens, layers.Dense(2)(layers.LayerNormalization()(x)), integers=True)
    assert made.input.dtype == "int32"


def test_shared_layers_several_inputs_and_outputs_and_models_in_models(keras3, carried):
    layers = keras3.layers
    left, right = keras3.Input((5,), name="left"), keras3.Input((5,), name="right")
    shared = layers.Dense(4, name="shared")
    inside = keras3.Input((4,))
    inner = keras3.Model(inside, [layers.Dense(3)(inside), layers.Dense(4)(inside * 2.0)], name="inner")
    one, two = inner(shared(left))
    three, _ = inner(shared(right))
    model = carried([left, right], [layers.Concatenate()([one, three]), two])
    assert len(model.get_layer("shared").inbound_nodes) == 2
    assert [tensor.shape[1] for tensor in model.outputs] == [6, 4]


TRACED = {
    "RMSNormalization": (IMAGE, lambda k, x: k.layers.RMSNormalization()(x)),
    "GroupQueryAttention": ((6, 4), lambda k, x: k.layers.GroupQueryAttention(3, 4, 2)(x, x)),
    "squareplus": ((6, 4), lambda k, x: k.layers.Dense(3, activation="squareplus")(x)),
    "AdaptiveAveragePooling2D": (IMAGE, lambda k, x: k.layers.AdaptiveAveragePooling2D(3)(x)),
    "RandomCrop": (IMAGE, lambda k, x: k.layers.RandomCrop(5, 6)(x)),
    "Discretization": ((6, 4), lambda k, x: k.layers.Discretization([-0.5, 0.5])(x)),
    "comparisons": ((6, 4), lambda k, x: k.ops.where(k.ops.logical_and(x > 0, x <= 1), x, 0.1 * x)),
    "argmax": ((6, 4), lambda k, x: k.ops.argmax(x, axis=-1)),
    "pad": (IMAGE, lambda k, x: k.ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=0.5)),
    "normalize": ((6, 4), lambda k, x: k.ops.normalize(x, axis=-1)),
    "normalize of order 1": ((6, 4), lambda k, x: k.ops.normalize(x, axis=1, order=1)),
    "einsum": ((6, 4), lambda k, x: k.ops.einsum("bij,bkj->bki", x, x)),
    "quantile": ((6, 4), lambda k, x: k.ops.quantile(x, [0.2, 0.7], axis=1)),
    "median": ((5, 3), lambda k, x: k.ops.median(x)),  # its size follows from the batch
    "cumsum": ((6, 4), lambda k, x: k.ops.cumsum(x, axis=1)),
    "stft": ((64,), lambda k, x: k.ops.stft(x, 16, 8, 16)),
    "slice_update": ((6, 4), lambda k, x: k.ops.slice_update(x, (0, 1, 2), np.ones((1, 2, 2), "float32"))),
    "mean of integers": ((6, 4), lambda k, x: k.ops.mean(k.ops.cast(x * 3, "int32"), axis=1)),
}


@pytest.mark.parametrize("name", TRACED)
def test_what_tf_keras_has_not_is_taken_over_as_operations(keras3, carried, name):
    shape, make = TRACED[name]
    inputs = keras3.Input(shape)
    assert carried(inputs, make(keras3, inputs)).input_shape == (None, *shape)


def test_traced_layers_keep_weights_that_can_be_trained(keras3, carried):
    layers, tokens = keras3.layers, keras3.Input((6,), dtype="int32")
    tied = layers.ReversibleEmbedding(7, 8)
    scaled = layers.RMSNormalization(name="scaled")
    scaled.trainable = False
    model = carried(tokens, tied(scaled(layers.Dense(8)(tied(tokens))), reverse=True), integers=True)
    trainable = [tuple(weight.shape) for weight in model.trainable_weights]
    assert sorted(trainable) == [(1, 56), (8,), (8, 8)]  # the embedding once, although it is used twice
    assert [tuple(weight.shape) for weight in model.non_trainable_weights] == [(1, 8)]


def test_layers_that_do_nothing_at_inference_are_left_out_with_a_note(keras3, tmp_path):
    layers = keras3.layers
    stack = [keras3.Input((8, 8, 3)), layers.RandomHue(0.3, name="hue"), layers.RandomErasing(name="gone")]
    keras3.Sequential([*stack, layers.Conv2D(2, 3)]).save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert [type(layer).__name__ for layer in loaded.model.layers[1:]] == ["Activation", "Activation", "Conv2D"]
    assert "hue (RandomHue), gone (RandomErasing): does nothing at inference, and `finetune` goes" in loaded.notes[0]


def test_lora_is_merged(keras3, carried):
    inputs, dense = keras3.Input((6,)), keras3.layers.Dense(3, name="dense")
    outputs = dense(inputs)
    dense.enable_lora(2)
    model = carried(inputs, outputs)
    assert [tuple(weight.shape) for weight in model.get_layer("dense").weights] == [(6, 3), (3,)]


def test_masks_are_those_that_tf_keras_finds_or_stand_in_the_graph(keras3, carried):
    layers, inputs = keras3.layers, keras3.Input((6, 4))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(layers.Masking()(inputs * (inputs[..., :1] > 0)))
    model = carried(inputs, layers.GlobalAveragePooling1D()(layers.GRU(3, return_sequences=True)(x)))
    calls = [layer.inbound_nodes[0].call_kwargs for layer in model.layers if type(layer).__name__ in ("GRU", "Masking")]
    assert not any("mask" in settings for settings in calls)
    tokens = keras3.Input((6,), dtype="int32")
    x = layers.Embedding(5, 4, mask_zero=True)(tokens)
    own = layers.GRU(3, name="own")(x, mask=keras3.ops.not_equal(tokens, 1))
    both = carried(tokens, layers.Concatenate()([own, layers.GRU(3, name="found")(x)]), integers=True)
    assert "mask" in both.get_layer("own").inbound_nodes[0].call_kwargs
    assert "mask" not in both.get_layer("found").inbound_nodes[0].call_kwargs


def test_both_directions_are_one_setting_unless_they_differ(keras3, carried):
    layers, inputs = keras3.layers, keras3.Input((6, 4))
    assert not hasattr(carried(inputs, layers.Bidirectional(layers.GRU(3))(inputs)).layers[1], "_backward_layer_config")
    apart = layers.Bidirectional(layers.GRU(3), backward_layer=layers.GRU(2, go_backwards=True))
    assert hasattr(carried(inputs, apart(inputs)).layers[1], "_backward_layer_config")


def test_dropout_drops_in_training_whatever_the_file_notes(keras3, carried):
    inputs = keras3.Input((50,))
    model = carried(inputs, keras3.layers.Dropout(0.5)(inputs, training=False))
    x = np.ones((2, 50), "float32")
    assert (np.asarray(model(x, training=True)) == 0).any()
    assert (np.asarray(model(x, training=False)) == 1).all()


def test_half_precision_is_judged_by_its_own_rounding(keras3, tmp_path):
    layers, inputs = keras3.layers, keras3.Input((8, 8, 3))
    x = layers.BatchNormalization(dtype="mixed_float16")(layers.Conv2D(12, 3, dtype="mixed_float16")(inputs))
    keras3.Model(inputs, layers.Dense(3, dtype="float32")(layers.GlobalAveragePooling2D()(x))).save(
        tmp_path / "m.keras"
    )
    assert 0 <= load_model(tmp_path / "m.keras").translation_difference <= 5e-3


def test_what_was_frozen_stays_frozen(keras3, carried):
    layers, inputs = keras3.layers, keras3.Input((5,))
    inner = keras3.Sequential([keras3.Input((5,)), layers.Dense(3, name="cold")], name="base")
    inner.trainable = False
    frozen = layers.Dense(4, name="frozen")
    frozen.trainable = False
    model = carried(inputs, layers.Dense(2, name="free")(frozen(inner(inputs, training=False))))
    assert [w.name.split("/")[0] for w in model.trainable_weights] == ["free", "free"]


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
