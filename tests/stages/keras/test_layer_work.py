"""Compare the formulas with counts by hand, and with the products in the graph of every layer that has none."""

import pytest

from stages.keras.macs import count_macs, macs_of
from stages.keras.tensorflow import import_keras, import_tensorflow

pytestmark = pytest.mark.usefixtures("fresh_session")

CONV = 9 * 3 * 5  # a kernel of 3×3 from 3 to 5 channels
ONE_INPUT = [
    (lambda k: k.Conv2D(5, 3, padding="same"), (8, 6, 3), 8 * 6 * CONV),
    (lambda k: k.Conv2D(5, 3, strides=2, padding="same"), (7, 5, 3), 4 * 3 * CONV),
    (lambda k: k.Conv2D(5, 3, dilation_rate=2), (8, 8, 3), 4 * 4 * CONV),
    (lambda k: k.Conv2D(6, 3, strides=2, padding="same", groups=3), (8, 8, 3), 4 * 4 * 9 * 1 * 6),
    (lambda k: k.Conv3D(5, (1, 3, 3)), (4, 5, 6, 3), 4 * 3 * 4 * CONV),
    (lambda k: k.Conv1D(5, 3), (10, 2), 8 * 3 * 2 * 5),
    (lambda k: k.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 3), 6 * 6 * 9 * 3 * 2),
    (lambda k: k.DepthwiseConv1D(3, strides=2), (9, 3), 4 * 3 * 3),
    (lambda k: k.SeparableConv2D(5, 3), (8, 8, 3), 6 * 6 * (9 * 3 + 3 * 5)),
    (lambda k: k.SeparableConv1D(5, 3, strides=2, depth_multiplier=2), (9, 3), 4 * (3 * 6 + 6 * 5)),
    (lambda k: k.Conv2DTranspose(5, 2, strides=2), (4, 4, 3), 4 * 4 * 4 * 3 * 5),
    (lambda k: k.Conv2DTranspose(5, 3, strides=2, padding="same", output_padding=1), (4, 4, 3), 4 * 4 * CONV),
    (lambda k: k.Conv1DTranspose(5, 3, strides=2), (4, 2), 4 * 3 * 2 * 5),
    (lambda k: k.Dense(7), (4,), 28),
    (lambda k: k.Dense(7), (5, 4), 5 * 28),
    (lambda k: k.EinsumDense("abc,cde->abde", (None, 2, 3)), (5, 4), 5 * 4 * 2 * 3),
    (lambda k: k.EinsumDense("...x,xy->...y", 7), (5, 3, 4), 15 * 28),
    (lambda k: k.SimpleRNN(8), (10, 16), 10 * 8 * (16 + 8)),
    (lambda k: k.GRU(8, reset_after=False), (10, 16), 10 * 3 * 8 * (16 + 8)),
    (lambda k: k.LSTM(8, return_sequences=True, go_backwards=True), (10, 16), 10 * 4 * 8 * (16 + 8)),
    (lambda k: k.RNN([k.LSTMCell(4), k.GRUCell(3)]), (10, 16), 10 * (4 * 4 * (16 + 4) + 3 * 3 * (4 + 3))),
    (lambda k: k.Bidirectional(k.GRU(8)), (10, 16), 2 * 10 * 3 * 8 * (16 + 8)),
    (lambda k: k.Bidirectional(k.LSTM(8), backward_layer=k.GRU(8, go_backwards=True)), (10, 16), 10 * 7 * 8 * 24),
    (lambda k: k.ConvLSTM1D(3, 2, strides=2), (4, 6, 2), 4 * 3 * 2 * 4 * 3 * (2 + 3)),
    (lambda k: k.ConvLSTM2D(3, 3, return_sequences=True), (4, 6, 5, 2), 4 * 4 * 3 * 9 * 4 * 3 * (2 + 3)),
    (lambda k: k.Bidirectional(k.ConvLSTM2D(3, 3, padding="same")), (4, 6, 5, 2), 2 * 4 * 30 * 9 * 12 * 5),
    (lambda k: k.TimeDistributed(k.Conv2D(5, 3)), (4, 8, 6, 3), 4 * 6 * 4 * CONV),
    (lambda k: k.TimeDistributed(k.TimeDistributed(k.Dense(7))), (3, 5, 4), 15 * 28),
    (lambda k: k.TimeDistributed(k.LSTM(2)), (3, 5, 4), 15 * 4 * 2 * (4 + 2)),
    (lambda k: k.LocallyConnected1D(5, 3), (10, 2), 8 * 3 * 2 * 5),
    (lambda k: k.LocallyConnected2D(5, 3, implementation=1), (8, 6, 3), 6 * 4 * CONV),
    (lambda k: k.LocallyConnected2D(5, 3, implementation=2), (8, 6, 3), 6 * 4 * CONV),
    (lambda k: k.LocallyConnected2D(5, 3, implementation=3), (8, 6, 3), 6 * 4 * CONV),
    (lambda k: k.SpectralNormalization(k.Conv2D(5, 3)), (8, 6, 3), 6 * 4 * CONV),
    (lambda k: k.BatchNormalization(), (4, 4, 3), 0),
    (lambda k: k.PReLU(), (4, 4, 3), 0),
    (lambda k: k.UpSampling2D(interpolation="bilinear"), (4, 4, 3), 0),
]


@pytest.mark.parametrize(("make", "shape", "macs"), ONE_INPUT)
def test_macs_are_those_counted_by_hand(make, shape, macs, of_one_input):
    assert macs_of(of_one_input(make, shape)) == (macs, (), None)


def two_lengths(keras):
    return keras.Input((5, 8), name="a"), keras.Input((7, 8), name="b")


@pytest.mark.parametrize(
    ("make", "macs"),
    [
        (lambda k, a, b: k.Attention()([a, b]), 5 * 7 * (8 + 8)),
        (lambda k, a, b: k.Attention(score_mode="concat")([a, b]), 5 * 7 * 8),
        (lambda k, a, b: k.AdditiveAttention()([a, b]), 5 * 7 * (8 + 8)),
        (lambda k, a, b: k.AdditiveAttention(use_scale=False)([a, b]), 5 * 7 * 8),
        (lambda k, a, b: k.Dot(axes=2)([a, b]), 5 * 7 * 8),
        (
            lambda k, a, b: k.MultiHeadAttention(2, 3, value_dim=4)(a, b),
            5 * 8 * 6 + 7 * 8 * 6 + 7 * 8 * 8 + 5 * 8 * 8 + 5 * 7 * 2 * (3 + 4),
        ),
        (
            lambda k, a, b: k.MultiHeadAttention(2, 3, output_shape=9)(query=a, value=b, key=b),
            5 * 8 * 6 + 2 * 7 * 8 * 6 + 5 * 6 * 9 + 5 * 7 * 2 * 6,
        ),
    ],
)
def test_attention_counts_its_products_of_activations(make, macs):
    keras = import_keras()
    a, b = two_lengths(keras)
    assert macs_of(keras.Model([a, b], make(keras.layers, a, b))) == (macs, (), None)


def test_attention_along_one_axis_of_two():
    keras = import_keras()
    image = keras.Input((4, 6, 8))
    model = keras.Model(image, keras.layers.MultiHeadAttention(2, 3, attention_axes=(2,))(image, image))
    assert count_macs(model) == 4 * 24 * 8 * 6 + 4 * 6 * 6 * 2 * (3 + 3)


def test_no_other_layer_of_keras_takes_products():
    """The closed world of `layer_kinds`: what has no formula there shows none in TensorFlow's graph either."""
    keras, tf = import_keras(), import_tensorflow()
    from stages.keras.graph_products import products_of_node
    from stages.keras.layer_kinds import KINDS, UNKNOWN

    seen = 0
    for name in dir(keras.layers):
        kind = getattr(keras.layers, name)
        known = KINDS.get(name, UNKNOWN)
        if not isinstance(kind, type) or known.work or known.traced:
            continue
        for shape in ((4, 4, 3), (4, 3), (2, 4, 4, 3), (3,)):
            try:
                layer, source = kind(), keras.Input(shape)
                layer(source)
            except (TypeError, ValueError, NotImplementedError, tf.errors.OpError):
                continue
            if len(layer.inbound_nodes) != 1 or layer.inbound_nodes[0].is_input:
                continue
            found = products_of_node(layer.inbound_nodes[0], [(1, *shape)])
            assert (found.number, found.untold) == (0, ()), name
            seen += 1
            break
    assert seen > 50
