import numpy as np
import pytest

from stages.keras.closing import before_squashing, closing_layers
from stages.keras.tensorflow import import_keras


@pytest.mark.parametrize("closing", ["softmax", "sigmoid", "layer"])
def test_outputs_are_those_before_a_closing_activation_which_is_back_afterwards(closing):
    keras = import_keras()
    vector = keras.Input((3,))
    head = keras.layers.Dense(4, activation=None if closing == "layer" else closing)
    outputs = head(vector)
    model = keras.Model(vector, keras.layers.Softmax()(outputs) if closing == "layer" else outputs)
    samples = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    squashed = model(samples).numpy()
    with before_squashing(model) as unsquashed:
        np.testing.assert_allclose(unsquashed(samples), samples @ head.kernel + head.bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model(samples), squashed)
    assert squashed.max() < 1


def test_activations_are_restored_after_an_error():
    keras = import_keras()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    with pytest.raises(ValueError, match="linear"), before_squashing(model):
        raise ValueError(model.layers[-1].activation.__name__)
    assert model.layers[-1].activation.__name__ == "softmax"


def test_dense_layers_that_a_softmax_or_sigmoid_closes_are_found():
    keras = import_keras()
    layers = keras.layers
    vector, grid = keras.Input((3,)), keras.Input((4, 3))
    twice = layers.Dense(3, activation="softmax", name="twice")
    outputs = [
        layers.Dense(2, activation="softmax", name="own")(vector),
        layers.Softmax()(layers.Dense(2, name="by_layer")(vector)),
        layers.Activation("sigmoid")(layers.Dense(2, name="by_activation")(vector)),
        layers.Softmax()(layers.Dense(2, activation="tanh", name="curved")(vector)),
        layers.Dense(2, name="open")(vector),
        layers.Dense(2, activation="softmax", name="each_place")(grid),
        layers.Softmax()(layers.Reshape((6,))(layers.Dense(2, name="moved")(vector[:, :, None]))),
        twice(twice(vector)),
    ]
    read_twice, given = layers.Dense(2, name="read_twice")(vector), layers.Dense(2, name="given")(vector)
    outputs += [
        layers.Softmax()(read_twice),
        layers.Dense(2, name="reader")(read_twice),
        layers.Softmax()(given),
        given,
    ]
    found = closing_layers(keras.Model([vector, grid], outputs))
    assert found == {"own": "softmax", "by_layer": "softmax", "by_activation": "sigmoid"}
