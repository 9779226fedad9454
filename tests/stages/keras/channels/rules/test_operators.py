"""Test TensorFlow operations on symbolic tensors: element-wise ones are followed, call arguments survive."""

import numpy as np
import pytest

from stages.keras.tensorflow import import_tensorflow


def net(keras, function):
    image = keras.Input((5, 5, 3))
    x = keras.layers.Conv2D(6, 1, name="a")(image)
    x = function(x, keras.layers.Conv2D(6, 1, name="b")(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 1, name="after")(x))
    return keras.Model(image, keras.layers.Dense(3)(x))


def test_hard_swish_out_of_single_numbers(keras, cut):
    relu6 = keras.layers.ReLU(6.0)
    model = net(keras, lambda a, b: a * (relu6(b + 3.0) * (1.0 / 6.0)) - 2.0 * a)
    result = cut(model)
    assert set(result.graph.prunable[0].makers) == {"a", "b"}
    assert result.pruned.get_layer("a").filters < 6


@pytest.mark.parametrize("name", ["nn.relu6", "nn.silu", "math.abs", "math.tanh", "math.square", "identity"])
def test_functions_of_one_tensor(keras, cut, name):
    tf = import_tensorflow()
    function = tf
    for part in name.split("."):
        function = getattr(function, part)
    assert len(cut(net(keras, lambda a, b: keras.layers.Concatenate()([function(a), b]))).graph.prunable) == 3


@pytest.mark.parametrize(
    "constant",
    [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [[[0.5, 1.0, 2.0, 3.0, 4.0, 5.0]]], np.arange(6, dtype=np.float32), "tensor"],
)
@pytest.mark.parametrize("left", [True, False])
def test_a_constant_for_each_channel_is_cut_with_it(keras, cut, constant, left):
    tf = import_tensorflow()
    value = tf.range(6.0) if isinstance(constant, str) else constant
    result = cut(net(keras, lambda a, b: tf.subtract(value, a) if left else tf.subtract(a, value) * b))
    assert result.pruned.get_layer("a").filters < 6


def test_a_constant_broadcast_over_channels_freezes(keras, cut, groups):
    tf = import_tensorflow()
    model = net(keras, lambda a, b: tf.add(tf.reduce_mean(a, 3, keepdims=True), [1.0] * 6) * b)
    assert groups(model)["a"][0].endswith("math.reduce_mean across channels")
    cut(model)


OPERATIONS = {
    "reduce_mean": lambda tf, a, b: tf.reduce_mean(a, [1, 2], keepdims=True) * b,
    "reduce_max": lambda tf, a, b: tf.reduce_max(a, [1], True) * b,
    "concat": lambda tf, a, b: tf.concat([a, b], axis=-1),
    "concat in space": lambda tf, a, b: tf.concat([a, b], 1),
    "split": lambda tf, a, b: tf.split(a, 2, axis=-1)[1] * tf.split(b, 2, axis=3)[0],
    "split in space": lambda tf, a, b: tf.split(a, 5, axis=1)[1] * b,
    "transpose": lambda tf, a, b: tf.transpose(a, [0, 2, 1, 3]) + b,
    "there and back": lambda tf, a, b: tf.transpose(tf.transpose(a, [0, 3, 1, 2]), [0, 2, 3, 1]) + b,
    "expand and squeeze": lambda tf, a, b: tf.squeeze(tf.expand_dims(a, 1), [1]) + b,
    "reshape": lambda tf, a, b: tf.reshape(tf.reshape(a, [-1, 25, 6]), (-1, 5, 5, 6)) + b,
    "into the batch and back": lambda tf, a, b: tf.reshape(tf.reshape(a, [-1, 6]) * 2.0, (-1, 5, 5, 6)) + b,
    "resize": lambda tf, a, b: tf.image.resize(a, (5, 5)) + b,
    "cast and clip": lambda tf, a, b: tf.clip_by_value(tf.cast(a, "float32"), -1.0, 1.0) + b,
    "softmax in space": lambda tf, a, b: tf.nn.softmax(a, axis=1) + b,
    "halves": lambda tf, a, b: a[..., :3] * b[:, :, :, 3:],
    "from the end": lambda tf, a, b: a[..., -2:] * b[..., -5:-3],
    "crop": lambda tf, a, b: a[:, 1:4, ::2] + b[:, :3, 1:4],
    "row": lambda tf, a, b: tf.expand_dims(a[:, 0], 1) + b,
    "arithmetic": lambda tf, a, b: 1.0 - a / 2.0 + b**2.0,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_that_move_channels(keras, cut, name):
    result = cut(net(keras, lambda a, b: OPERATIONS[name](import_tensorflow(), a, b)))
    assert result.pruned.get_layer("a").filters < 6


def test_no_slice_is_emptied(keras, cut):
    """Each part that is cut out of a tensor keeps a channel, because it is a separate group."""
    model = net(keras, lambda a, b: keras.layers.Concatenate()([a[..., :3] * 2.0, a[..., 3:], b]))
    result = cut(model)
    assert [group.channels.size for group in result.graph.prunable] == [3, 3, 6, 4]


FROZEN = {
    "across channels": lambda tf, a: tf.reduce_mean(a, -1, keepdims=True),
    "splits channels in parts": lambda tf, a: tf.split(a, [2, 4], axis=-1)[0],
    "slices channels by steps": lambda tf, a: a[..., ::2],
    "takes one channel": lambda tf, a: a[..., 0:1] * 0 + tf.expand_dims(a[..., 0], -1),
    "adds axes": lambda tf, a: a[:, None, ..., 0],
    "softmax across channels": lambda tf, a: tf.nn.softmax(a),
    "reshapes the channel axis": lambda tf, a: tf.reshape(a, (-1, 5, 5, 2, 3))[..., 0],
    "moves channels into the batch": lambda tf, a: tf.reshape(tf.reshape(a, (-1, 3)) * 2.0, (-1, 5, 5, 6)),
    "sizes that are computed": lambda tf, a: tf.reshape(a, (tf.shape(a)[0], 5, 5, 6)),
}


@pytest.mark.parametrize("reason", FROZEN)
def test_what_cannot_be_followed_freezes(keras, cut, groups, reason):
    tf = import_tensorflow()

    def both(a, b):
        found = FROZEN[reason](tf, a)
        return keras.layers.Concatenate()([keras.layers.Reshape((5, 5, -1))(found), b])

    model = net(keras, both)
    assert any(reason in why for why in groups(model)["a"])
    result = cut(model)
    assert result.pruned.get_layer("a").filters == 6
    assert result.pruned.get_layer("b").filters < 6


def test_an_unknown_operation_freezes(keras, cut, groups):
    tf = import_tensorflow()
    model = net(keras, lambda a, b: keras.layers.Concatenate()([tf.reverse(a, axis=[-1]), b]))
    (reason,) = groups(model)["a"]
    assert reason.endswith(": unknown operation reverse")
    assert cut(model).pruned.get_layer("b").filters < 6
