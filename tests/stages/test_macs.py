import pytest

from stages.macs import count_macs
from stages.tf_runtime import import_keras, import_tfmot


@pytest.mark.parametrize(
    ("make", "shape", "macs"),
    [
        (lambda k: k.Conv2D(5, 3, padding="same"), (8, 6, 3), 8 * 6 * 9 * 3 * 5),
        (lambda k: k.Conv2D(6, 3, strides=2, padding="same", groups=3), (8, 8, 3), 4 * 4 * 9 * 1 * 6),
        (lambda k: k.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 3), 6 * 6 * 9 * 3 * 2),
        (lambda k: k.SeparableConv2D(5, 3), (8, 8, 3), 6 * 6 * (9 * 3 + 3 * 5)),
        (lambda k: k.Conv2DTranspose(5, 2, strides=2), (4, 4, 3), 4 * 4 * 4 * 3 * 5),
        (lambda k: k.Conv1D(5, 3), (10, 2), 8 * 3 * 2 * 5),
        (lambda k: k.Dense(7), (4,), 28),
        (lambda k: k.Dense(7), (5, 4), 5 * 28),
        (lambda k: k.BatchNormalization(), (4, 4, 3), 0),
    ],
)
def test_macs_are_those_counted_by_hand(make, shape, macs):
    keras = import_keras()
    inputs = keras.Input(shape)
    assert count_macs(keras.Model(inputs, make(keras.layers)(inputs))) == macs


def test_a_shared_layer_counts_once_a_call():
    keras = import_keras()
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(4)
    assert count_macs(keras.Model(inputs, shared(shared(inputs)))) == 32


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


def test_nested_models_count():
    keras = import_keras()
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    inputs = keras.Input((4,))
    assert count_macs(keras.Model(inputs, inner(inputs))) == 12
