"""Compare counts by hand, by TensorFlow's graph, and by the shapes of operators in exported files: all are equal."""

from math import prod

import numpy as np
import onnx
import pytest

from stages.keras.free_sizes import Wanted, settle
from stages.keras.macs import count_macs, input_shapes, kernels_of, macs_of, work_of
from stages.keras.normal_form import keras_facts
from stages.keras.tensorflow import import_keras, import_tensorflow, import_tfmot

pytestmark = pytest.mark.usefixtures("fresh_session")

CONV = 9 * 3 * 5  # a kernel of 3×3 from 3 to 5 channels


def test_a_shared_layer_counts_once_a_call_and_only_in_its_model():
    keras = import_keras()
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(4)
    model = keras.Model(inputs, shared(shared(inputs)))
    keras.Model(inputs, shared(model.output))  # a call that is another model's
    assert count_macs(model) == 32


@pytest.mark.parametrize("wrap", ["clustering", "quantization"])
def test_layers_in_tfmots_wrappers_count_as_what_they_wrap(wrap):
    keras, tfmot = import_keras(), import_tfmot()
    inputs = keras.Input((8, 6, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(5, 3, padding="same")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(7)(x))
    linear = tfmot.clustering.keras.CentroidInitialization.LINEAR
    if wrap == "quantization":
        wrapped = tfmot.quantization.keras.quantize_model(model)
    else:
        wrapped = tfmot.clustering.keras.cluster_weights(model, number_of_clusters=2, cluster_centroids_init=linear)
    assert count_macs(wrapped) == count_macs(model) == 8 * 6 * 9 * 3 * 5 + 8 * 6 * 5 * 7
    assert macs_of(wrapped).unknown == ()


def test_nested_models_count_once_a_call_at_the_size_of_the_call():
    keras = import_keras()
    inner = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(5, 3)])
    small, large = keras.Input((5, 5, 3)), keras.Input((8, 6, 3))
    model = keras.Model([small, large], [inner(small), inner(large)])
    assert macs_of(model) == ((3 * 3 + 6 * 4) * CONV, (), None)
    clip = keras.Input((4, 5, 5, 3))
    assert count_macs(keras.Model(clip, keras.layers.TimeDistributed(inner)(clip))) == 4 * 9 * CONV


def test_free_sizes_stand_at_96_or_at_what_is_said(of_one_input):
    image, words = (lambda k: k.Conv2D(5, 3, strides=2), (None, None, 3)), (lambda k: k.LSTM(8), (None, 16))
    found, name = macs_of(of_one_input(*image)), "input_1"
    assert (found.number, list(found.size.values())) == (47 * 47 * CONV, [(96, 96, 3)])
    found = macs_of(of_one_input(*words))
    assert (found.number, list(found.size.values())) == (96 * 4 * 8 * (16 + 8), [(96, 16)])
    said = of_one_input(*image, name=name)
    settle(said, Wanted(sizes=(41, 23)))
    assert macs_of(said) == (20 * 11 * CONV, (), {name: (41, 23, 3)})
    assert input_shapes(said) == {said.layers[1].name: (1, 41, 23, 3)}
    spoken = of_one_input(*words, name=name)
    settle(spoken, Wanted(sizes=7))
    assert macs_of(spoken) == (7 * 4 * 8 * (16 + 8), (), {name: (7, 16)})


def test_a_fixed_batch_is_divided_out(of_one_input):
    make = lambda k: k.TimeDistributed(k.Dense(7))  # noqa: E731 - as in the table above
    assert count_macs(of_one_input(make, (5, 4), batch_size=6)) == 5 * 28


def windows(layers, x):
    """Compute attention within windows of 2×2, as positions of the batch."""
    tf = import_tensorflow()
    x = tf.transpose(tf.reshape(x, (-1, 2, 2, 2, 2, 8)), (0, 1, 3, 2, 4, 5))
    x = tf.reshape(x, (-1, 4, 8))
    return layers.MultiHeadAttention(2, 4)(x, x)


def test_positions_that_are_folded_into_the_batch_count():
    keras = import_keras()
    image = keras.Input((4, 4, 8))
    model = keras.Model(image, windows(keras.layers, image))
    assert macs_of(model) == (4 * (4 * 4 * 64 + 4 * 4 * 2 * (4 + 4)), (), None)


def test_operations_of_tensorflow_and_layers_of_ones_own_are_counted_in_its_graph():
    keras, tf = import_keras(), import_tensorflow()

    class Own(keras.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight("w", (shape[-1], 3))

        def call(self, x):
            return tf.matmul(x, self.w)

    tokens = keras.Input((5, 8))
    scores = tf.einsum("bqc,bkc->bqk", tokens, tokens) + tf.matmul(tokens, tokens, transpose_b=True)
    signal = tf.nn.conv1d(tokens, tf.ones((3, 8, 4)), 1, "SAME")
    own = keras.layers.TimeDistributed(Own())(keras.layers.Reshape((5, 2, 4))(tokens))
    macs = macs_of(keras.Model(tokens, [scores, signal, own, tf.nn.relu(tokens * 2.0)]))
    assert macs == (2 * 5 * 5 * 8 + 5 * 3 * 8 * 4 + 5 * 2 * 4 * 3, (), None)


def test_what_is_not_known_is_named_and_the_rest_is_a_lower_bound():
    keras, tf = import_keras(), import_tensorflow()

    class OwnCell(keras.layers.SimpleRNNCell):
        pass

    tokens = keras.Input((5, 8))
    loop = keras.layers.Lambda(lambda x: tf.map_fn(lambda one: tf.matmul(one, one, transpose_b=True), x), name="loop")
    harmless = keras.layers.Lambda(lambda x: tf.map_fn(lambda one: one + 1.0, x), name="harmless")
    sine = lambda x: tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), x.shape)  # noqa: E731 - as the others
    outside = keras.layers.Lambda(sine, name="outside")
    dense = keras.layers.Dense(3)(harmless(tokens))
    model = keras.Model(tokens, [loop(tokens), keras.layers.RNN(OwnCell(4), name="own")(dense), outside(tokens)])
    macs = macs_of(model)
    assert macs.number == 5 * 8 * 3
    assert sorted(macs.unknown) == [
        "loop (Lambda: a loop or branch around products)",
        "outside (Lambda: PyFunc)",
        "own (a cell OwnCell)",
    ]
    assert keras_facts(model).macs_unknown == macs.unknown


def test_zeros_of_biases_and_slopes_are_no_sparsity():
    keras = import_keras()
    tokens = keras.Input((5, 8))
    x = keras.layers.MultiHeadAttention(2, 4)(
        keras.layers.PReLU()(keras.layers.GRU(8, return_sequences=True)(tokens)), tokens
    )
    model = keras.Model(tokens, keras.layers.Dense(3)(x))
    assert any(w.ndim > 1 and not w.any() for w in model.get_weights())
    assert keras_facts(model).sparsity == 0.0
    assert len(kernels_of(model)) == 2 + 4 + 1


# The files. Each operator's products from the shapes that ONNX's own inference gives, none of which is ours.
def onnx_macs(model):
    from stages.formats.onnx.convert import convert_onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(convert_onnx(model, "float32", batch=1))).graph
    shapes = {w.name: tuple(w.dims) for w in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes.setdefault(value.name, tuple(size.dim_value for size in value.type.tensor_type.shape.dim))
    return sum(MULTIPLY[node.op_type](node, shapes) for node in graph.node if node.op_type in MULTIPLY)


def gemm(node, shapes):
    across = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][-2 if across else -1]


def recurrent_products(node, shapes):
    """Count products of input (steps, batch, channels), W (directions, gates, channels), R (directions,
    gates, units).
    """
    steps, batch, _ = shapes[node.input[0]]
    return steps * batch * (prod(shapes[node.input[1]]) + prod(shapes[node.input[2]]))


MULTIPLY = {
    "Conv": lambda n, s: prod(s[n.output[0]]) * prod(s[n.input[1]][1:]),
    "ConvTranspose": lambda n, s: prod(s[n.input[0]]) * prod(s[n.input[1]][1:]),
    "MatMul": gemm,
    "Gemm": gemm,
    "LSTM": recurrent_products,
    "GRU": recurrent_products,
    "RNN": recurrent_products,
}


def mixed(keras):
    """Build everything that a file shows in one network of two inputs."""
    layers = keras.layers
    image, tokens = keras.Input((8, 8, 4), name="image"), keras.Input((6, 8), name="tokens")
    x = layers.SeparableConv2D(6, 3, padding="same")(layers.Conv2D(8, 3, groups=2, padding="same")(image))
    x = layers.Conv2DTranspose(5, 2, strides=2)(layers.DepthwiseConv2D(3)(x))
    x = layers.Dense(7)(layers.GlobalAveragePooling2D()(x))
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(tokens)
    y = layers.MultiHeadAttention(2, 4)(y, tokens)
    y = layers.TimeDistributed(layers.Dense(5))(layers.EinsumDense("abc,cd->abd", (None, 6))(y))
    y = layers.Attention()([y, y])
    return keras.Model([image, tokens], [x, y])


def test_an_onnx_file_takes_as_many():
    model = mixed(import_keras())
    assert onnx_macs(model) == count_macs(model) > 20_000


def test_a_tflite_file_takes_as_many():
    from stages.formats.tflite.convert import convert_tflite

    keras = import_keras()
    image, layers = keras.Input((3, 8, 8, 4)), keras.layers
    x = layers.TimeDistributed(layers.Conv2D(8, 3))(image)
    x = layers.TimeDistributed(layers.Flatten())(layers.TimeDistributed(layers.DepthwiseConv2D(3))(x))
    model = keras.Model(image, layers.Dense(7)(layers.LSTM(4)(x)))
    assert (
        tflite_macs(convert_tflite(model, "float32", recurrent="fused"))  # a loop would be counted once
        == count_macs(model)
        == round(sum(work.macs for work in work_of(model).values()))
    )


def tflite_macs(data):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    shapes = {tensor["index"]: tuple(tensor["shape"]) for tensor in interpreter.get_tensor_details()}
    found = 0
    for operator in interpreter._get_ops_details():
        given, made = ([shapes.get(index) for index in operator[name].tolist()] for name in ("inputs", "outputs"))
        if operator["op_name"] == "CONV_2D":
            found += prod(made[0]) * prod(given[1][1:])
        elif operator["op_name"] == "DEPTHWISE_CONV_2D":
            found += prod(made[0]) * prod(given[1][1:3])
        elif operator["op_name"] == "FULLY_CONNECTED":
            found += prod(made[0]) * given[1][-1]
        elif operator["op_name"] == "UNIDIRECTIONAL_SEQUENCE_LSTM":
            found += prod(given[0][:2]) * sum(prod(shape) for shape in given[1:9])
    return found
