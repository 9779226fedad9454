import numpy as np
import pytest

from stages.keras.equalizing.absorbing import absorb_offsets, tensors_moved
from stages.keras.equalizing.draft import Draft
from stages.keras.equalizing.statistics import statistics_of
from stages.keras.regression.running import Network

X = np.random.default_rng(0).uniform(-1, 1, (64, 5, 5, 2)).astype(np.float32)
HIGH = np.array([40.0, -30, 20], np.float32)


def absorbed(keras, build, bias=HIGH):
    layers, image = keras.layers, keras.Input((5, 5, 2))
    model = keras.Model(image, build(layers, layers.Conv2D(3, 1, name="maker")(image)))
    model.get_layer("maker").bias.assign(bias)
    network, draft = Network.of(model), Draft(model)
    measured = statistics_of(network, [[X]], tensors_moved(network, frozenset()))
    notes = absorb_offsets(network, draft, measured, frozenset())
    made = draft.built()
    np.testing.assert_allclose(made(X), model(X), rtol=1e-4, atol=1e-4)
    return made, notes


def test_a_linear_layer_s_range_is_centered(keras):
    made, (note,) = absorbed(keras, lambda layers, x: layers.Conv2D(2, 3)(layers.AveragePooling2D(1)(x)))
    assert np.abs(made.get_layer("maker").bias.numpy()).max() < 3
    assert note.startswith("maker: what its channels have in common goes into the biases that read them")


def test_behind_a_relu_most_of_what_is_always_there_goes(keras):
    def build(layers, x):
        return layers.Dense(2, name="reader")(layers.ReLU()(x))

    made, notes = absorbed(keras, build)
    assert len(notes) == 1
    bias = made.get_layer("maker").bias.numpy()
    assert (np.abs(bias[[0, 2]]) < 5).all()
    assert bias[1] == -30  # never above zero
    assert absorbed(keras, build, bias=0 * HIGH)[1] == []


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_not_where_zeros_are_read(keras, padding):
    def build(layers, x):
        return layers.Conv2D(2, 3, padding=padding)(x)

    assert bool(absorbed(keras, build)[1]) == (padding == "valid")


def test_not_where_it_would_widen_another_range(keras):
    def against(layers, x):
        opposed = layers.Conv2D(3, 1, kernel_initializer="zeros", name="opposed")
        made = layers.Dense(2)(layers.Add()([x, opposed(x)]))
        opposed.bias.assign(-HIGH)
        return made

    assert absorbed(keras, against)[1] == []
