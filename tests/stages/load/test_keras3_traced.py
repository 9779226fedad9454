import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
IMAGE = (8, 8, 4)
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
