"""Compose operations that tf_keras can't store from those that it can, and compare them with TensorFlow's own."""

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.load.compositions import UntraceableError, bucketized, einsum, updated_slice

RNG = np.random.default_rng(0)


def node_of(call, *shapes):
    """Return the node that TensorFlow makes of a call."""
    tf = import_tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        return call(*(tf.compat.v1.placeholder(tf.float32, shape) for shape in shapes)).op


@pytest.mark.parametrize(
    ("equation", "sizes"),
    [
        ("bij,bjk->bik", [(None, 2, 3), (None, 3, 4)]),
        ("bij,bkj->bki", [(None, 2, 3), (None, 4, 3)]),
        ("bij,bk->bijk", [(None, 2, 3), (None, 4)]),
        ("bijx,bjky->bik", [(None, 2, 3, 4), (None, 3, 5, 2)]),  # x and y are summed alone
        ("bij->bji", [(None, 2, 3)]),
        ("bij->b", [(None, 2, 3)]),
    ],
)
def test_an_einsum_is_a_product_of_matrices(equation, sizes):
    keras, tf = import_keras(), import_tensorflow()
    inputs = [keras.Input(size[1:]) for size in sizes]
    node = node_of(lambda *tensors: tf.einsum(equation, *tensors), *sizes)
    model = keras.Model(inputs, einsum(node, inputs))
    arrays = [RNG.standard_normal((5, *size[1:])).astype(np.float32) for size in sizes]
    np.testing.assert_allclose(model(arrays), np.einsum(equation, *arrays), rtol=1e-5, atol=1e-5)
    assert "einsum" not in model.to_json().lower()


@pytest.mark.parametrize(("equation", "count"), [("bii->bi", 1), ("bi,bi,bi->b", 3)])
def test_what_is_no_product_of_two_is_refused(equation, count):
    class Node:
        get_attr = staticmethod({"equation": equation.encode()}.get)

    with pytest.raises(UntraceableError, match=f"it has the einsum {equation}"):
        einsum(Node, [None] * count)


def test_a_slice_is_updated_at_its_place():
    keras = import_keras()
    from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_dynamic_update_slice

    x, update = keras.Input((4, 3)), np.float32([[[7, 8]]])
    node = node_of(lambda a, b: xla_dynamic_update_slice(a, b, [0, 2, 1]), (None, 4, 3), (1, 1, 2))
    model = keras.Model(x, updated_slice(node, x, update, np.array([0, 2, 1])))
    given = RNG.standard_normal((2, 4, 3)).astype(np.float32)
    expected = given.copy()
    expected[0, 2, 1:] = [7, 8]
    np.testing.assert_array_equal(model(given), expected)
    with pytest.raises(UntraceableError, match="by what is not known"):
        updated_slice(node, x, x, np.array([0, 0, 0]))


def test_numbers_are_put_between_boundaries():
    keras, tf = import_keras(), import_tensorflow()
    x = keras.Input((3,))
    node = node_of(lambda a: tf.raw_ops.Bucketize(input=a, boundaries=[-1.0, 0.5]), (None, 3))
    assert keras.Model(x, bucketized(node, x))(np.float32([[-2, -1, 3]])).numpy().tolist() == [[0, 1, 2]]
