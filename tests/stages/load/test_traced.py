"""Repeat a traced call on tf_keras' tensors: what was computed, and what can't be stored."""

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.load.compositions import UntraceableError
from stages.load.traced import traced


def nothing_held(handle, anchor):
    raise AssertionError("there are no variables")


def test_the_outputs_are_those_of_the_call_at_every_batch_size():
    keras, tf = import_keras(), import_tensorflow()
    x = keras.Input((4, 3))

    def call(tensor, factor):
        flat = tf.reshape(tensor, (tf.shape(tensor)[0], -1))  # a size that only the batch tells
        return tf.nn.relu(flat * factor) + np.arange(12, dtype=np.float32), tf.reduce_sum(flat, axis=1)

    outputs = traced(call, ((x,), {"factor": 2.0}), nothing_held)
    model = keras.models.clone_model(keras.Model(x, outputs))  # a graph that can be rebuilt from its configuration
    for batch in (1, 5):
        given = np.random.default_rng(batch).standard_normal((batch, 4, 3)).astype(np.float32)
        for found, expected in zip(model(given), call(given, 2.0), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_variable_is_what_its_holder_gives():
    keras, tf = import_keras(), import_tensorflow()
    x, variable = keras.Input((3,)), tf.Variable([1.0, 2.0, 3.0])
    held = []

    def hold(handle, anchor):
        held.append(handle is variable.handle)
        return tf.cast(tf.fill([3], 5.0), anchor.dtype) + tf.zeros_like(anchor)

    (output,) = traced(lambda tensor: tensor * variable, ((x,), {}), hold)
    assert keras.Model(x, output)(np.ones((1, 3), np.float32)).numpy().tolist() == [[5.0] * 3]
    assert held == [True]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda tf, x: x + tf.random.normal((3,)), "draws random numbers"),
        (lambda tf, x: tf.while_loop(lambda y: tf.reduce_sum(y) < 9, lambda y: (y + 1,), (x,))[0], "has control flow"),
        (lambda tf, x: tf.raw_ops.CTCGreedyDecoder(inputs=x[None], sequence_length=[1])[0], "CTCGreedyDecoder"),
    ],
)
def test_what_can_not_be_stored_is_told(call, why):
    tf, x = import_tensorflow(), import_keras().Input((3,))
    with pytest.raises(UntraceableError, match=why):
        traced(lambda tensor: call(tf, tensor), ((x,), {}), nothing_held)
