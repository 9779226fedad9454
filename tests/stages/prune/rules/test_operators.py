"""TensorFlow operations on symbolic tensors: element-wise ones are followed, call arguments survive."""

import pytest

from stages.tf_runtime import import_tensorflow


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


@pytest.mark.parametrize("constant", [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [[[0.5] * 6]]])
def test_a_constant_for_each_channel_freezes(keras, cut, groups, constant):
    tf = import_tensorflow()
    model = net(keras, lambda a, b: keras.layers.Concatenate()([tf.add(a, constant), b]))
    (reason,) = groups(model)["a"]
    assert reason.endswith(": math.add with a constant for each channel")
    assert groups(model)["b"] == 6
    assert cut(model).pruned.get_layer("a").filters == 6


def test_an_unknown_operation_freezes(keras, cut, groups):
    tf = import_tensorflow()
    model = net(keras, lambda a, b: keras.layers.Concatenate()([tf.reverse(a, axis=[-1]), b]))
    (reason,) = groups(model)["a"]
    assert reason.endswith(": unknown operation reverse")
    assert cut(model).pruned.get_layer("b").filters < 6
