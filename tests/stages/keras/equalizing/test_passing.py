import numpy as np

from stages.keras.equalizing.passing import activation_of, is_homogeneous, is_linear, passed


def test_which_layers_commute_with_factors_and_offsets(keras):
    layers = keras.layers
    both = [layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.1), layers.UpSampling2D(), layers.Cropping1D()]
    factors = [
        layers.ReLU(),
        layers.ReLU(negative_slope=0.1),
        layers.LeakyReLU(),
        layers.PReLU(),
        layers.ZeroPadding2D(),
    ]
    neither = [
        layers.ReLU(6.0),
        layers.ReLU(threshold=1.0),
        layers.Softmax(),
        layers.Activation("tanh"),
        layers.LSTM(2),
    ]
    assert all(is_homogeneous(layer) and is_linear(layer) for layer in both)
    assert all(is_homogeneous(layer) and not is_linear(layer) for layer in factors)
    assert not any(is_homogeneous(layer) or is_linear(layer) for layer in neither)
    assert is_homogeneous(layers.Activation("relu"))
    assert is_linear(layers.Activation("linear"))


def test_activations_of_users_have_no_name_here(keras):
    assert activation_of(keras.layers.Dense(1, activation="relu")) == "relu"
    assert activation_of(keras.layers.MaxPooling2D()) == "linear"

    def relu(x):
        return x + 1

    assert activation_of(keras.layers.Dense(1, activation=relu)) == ""


def test_channels_by_the_place_where_they_end_up(keras):
    image = keras.Input((2, 3, 4))
    values = np.arange(4)
    for layer, wanted in (
        (keras.layers.MaxPooling2D(), values),
        (keras.layers.Flatten(), np.tile(values, 6)),
        (keras.layers.Reshape((24,)), np.tile(values, 6)),
        (keras.layers.Reshape((6, 4)), values),
        (keras.layers.Reshape((4, 6)), None),
        (keras.layers.Flatten(data_format="channels_first"), None),
    ):
        layer(image)
        found = passed(layer.inbound_nodes[0], values)
        assert (found is None) if wanted is None else np.array_equal(found, wanted)
