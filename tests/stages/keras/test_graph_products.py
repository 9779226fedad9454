import pytest

from stages.keras.graph_products import Products, einsum_products, products_of
from stages.keras.tensorflow import import_tensorflow


@pytest.mark.parametrize(
    ("equation", "shapes", "number"),
    [
        ("ab,bc->ac", [(2, 3), (3, 4)], 24),
        ("bqhd, bkhd -> bhqk", [(2, 5, 3, 4), (2, 7, 3, 4)], 2 * 3 * 5 * 7 * 4),
        ("...ab,...bc->...ac", [(6, 2, 3), (1, 3, 4)], 6 * 24),
        ("...a,ab", [(5, 6, 2), (2, 3)], 30 * 6),
        ("ab,ab->", [(2, 3), (2, 3)], 6),
        ("ab->ba", [(2, 3)], 0),
    ],
)
def test_an_einsum_takes_the_product_of_all_its_indices(equation, shapes, number):
    assert einsum_products(equation, shapes) == number


@pytest.mark.parametrize(
    ("call", "shapes", "number"),
    [
        (lambda tf, a, b: tf.matmul(a, b, transpose_a=True), [(3, 2), (3, 4)], 24),
        (lambda tf, a, b: tf.matmul(a, b, adjoint_b=True), [(5, 2, 3), (5, 4, 3)], 5 * 24),
        (lambda tf, a, b: tf.tensordot(a, b, [[2], [0]]), [(5, 2, 3), (3, 4)], 10 * 12),
        (lambda tf, a, b: tf.nn.conv2d(a, b, 2, "SAME"), [(1, 8, 6, 4), (3, 3, 2, 6)], 4 * 3 * 9 * 2 * 6),
        (lambda tf, a, b: tf.nn.conv3d(a, b, [1] * 5, "VALID"), [(1, 3, 4, 4, 2), (2, 2, 2, 2, 5)], 2 * 9 * 8 * 2 * 5),
        (lambda tf, a, b: tf.nn.depthwise_conv2d(a, b, [1] * 4, "SAME"), [(1, 5, 4, 3), (3, 3, 3, 2)], 20 * 9 * 6),
        (lambda tf, a, b: tf.nn.conv2d_transpose(a, b, (1, 8, 8, 5), 2), [(1, 4, 4, 3), (2, 2, 5, 3)], 16 * 4 * 15),
        (lambda tf, a, b: tf.nn.softmax(a + b * 2.0), [(4, 4), (4, 4)], 0),
        (lambda tf, a, b: tf.function(tf.matmul)(a, b), [(2, 3), (3, 4)], 24),
        (lambda tf, a, b: tf.linalg.band_part(tf.linalg.diag(a), 0, 0) + b, [(4,), (4, 4)], 0),
    ],
)
def test_products_of_operations_are_counted_from_their_shapes(call, shapes, number):
    tf = import_tensorflow()
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    assert products_of(lambda a, b: call(tf, a, b), specs) == Products(number)


def test_what_the_graph_does_not_tell_is_named():
    tf = import_tensorflow()
    spec = tf.TensorSpec((4, 4), tf.float32)
    assert products_of(tf.linalg.inv, [spec]) == Products(0, ("MatrixInverse",))
    branch = lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x @ x, lambda: x)  # noqa: E731 - a function to trace
    assert products_of(branch, [spec]) == Products(0, ("a loop or branch around products",))
    assert products_of(lambda x: x @ x, [tf.TensorSpec((4, None), tf.float32)]).untold == (
        "MatMul on sizes that are not known",
    )

    def broken(x):
        raise RuntimeError("the user's own")

    assert products_of(broken, [spec]) == Products(0, ("its call can't be traced: RuntimeError",))
