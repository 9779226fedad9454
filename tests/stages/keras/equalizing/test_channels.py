import numpy as np

from stages.keras.equalizing.channels import FIXED, Channels, Variables
from stages.keras.regression.running import Network


def test_variables_that_are_equal_have_one_root():
    variables = Variables()
    first, second, third = (variables.new(2) for _ in range(3))
    variables.join(first, second)
    variables.fix(third)
    assert variables.roots(second).tolist() == first.tolist()
    assert variables.roots(third).tolist() == [FIXED, FIXED]
    variables.join(first[:1], third[:1])
    assert variables.roots(second).tolist() == [FIXED, first[1]]


def network_of(keras, build):
    image = keras.Input((6, 6, 3))
    model = keras.Model(image, build(keras.layers, image))
    network = Network.of(model)
    return network, Channels.of(network, frozenset())


def test_inputs_outputs_and_what_is_not_homogeneous_are_fixed(keras):
    def build(layers, x):
        x = layers.Conv2D(4, 1, activation="relu", name="free")(x)
        x = layers.Conv2D(4, 1, activation="tanh", name="bent")(layers.MaxPooling2D()(x))
        return layers.Dense(2, name="last")(layers.Flatten()(x))

    _, channels = network_of(keras, build)
    assert (channels.reads["free"] == FIXED).all()
    assert (channels.makes["free"] != FIXED).all()
    assert (channels.reads["bent"] == channels.makes["free"]).all()
    assert (channels.makes["bent"] == FIXED).all()
    assert len(channels.reads["last"]) == 36
    assert (channels.makes["last"] == FIXED).all()


def test_sums_join_and_concatenations_keep_apart(keras):
    def build(layers, x):
        a, b = layers.Conv2D(2, 1, name="a")(x), layers.Conv2D(2, 1, name="b")(x)
        c = layers.Conv2D(2, 1, name="c")(x)
        return layers.Conv2D(1, 1, name="end")(layers.Concatenate()([layers.Add()([a, b]), c]))

    _, channels = network_of(keras, build)
    assert channels.makes["a"].tolist() == channels.makes["b"].tolist()
    assert not set(channels.makes["a"]) & set(channels.makes["c"])
    assert channels.reads["end"].tolist() == [*channels.makes["a"], *channels.makes["c"]]


def test_a_gate_is_fixed_and_what_it_scales_is_not(keras):
    def build(layers, x):
        x = layers.Conv2D(4, 1, activation="relu", name="x")(x)
        gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
        return layers.Conv2D(2, 1, name="end")(layers.Multiply()([x, gate]))

    _, channels = network_of(keras, build)
    assert channels.reads["end"].tolist() == channels.makes["x"].tolist() != [FIXED] * 4


def test_layers_called_twice_have_one_set_of_channels_and_kept_ones_none(keras):
    layers, image = keras.layers, keras.Input((6, 6, 3))
    shared = layers.Conv2D(3, 1, activation="relu", name="shared")
    first = layers.Conv2D(3, 1, name="first")(image)
    model = keras.Model(image, layers.Conv2D(2, 1, name="end")(shared(shared(first))))
    network = Network.of(model)
    channels = Channels.of(network, frozenset())
    assert channels.makes["first"].tolist() == channels.makes["shared"].tolist() == channels.reads["shared"].tolist()
    kept = Channels.of(network, frozenset({"shared"}))
    assert "shared" not in kept.makes
    assert not np.any([kept.makes["first"], kept.reads["end"]])
