import numpy as np
import pytest

from stages.keras.equalizing.offsets import followed
from stages.keras.regression.running import Network

ONES, UP = np.ones(3), np.array([1.0, 0, 2])


def follow(keras, build, factor=ONES, offset=UP, kept=frozenset()):
    layers, image = keras.layers, keras.Input((6, 6, 2))
    x = layers.Conv2D(3, 1, name="maker")(image)
    model = keras.Model(image, build(layers, x))
    network = Network.of(model)
    key = next(call.makes[0] for call in network.calls if call.layer == "maker")
    return followed(network, key, factor, offset, kept)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_an_offset_ends_where_no_zeros_are_read(keras, padding):
    for build in (
        lambda layers, x: layers.Conv2D(2, 3, padding=padding, name="end")(layers.MaxPooling2D(padding="same")(x)),
        lambda layers, x: layers.DepthwiseConv2D(3, padding=padding, name="end")(x),
    ):
        found = follow(keras, build)
        assert (found is None) == (padding == "same")
        if found is not None:
            (change,) = found.changes
            assert change.layer == "end"
            assert change.offset.tolist() == UP.tolist()
    assert follow(keras, lambda layers, x: layers.Conv2D(2, 3, padding=padding)(x), offset=0 * UP) is not None
    assert follow(keras, lambda layers, x: layers.Conv2D(2, 1, padding=padding)(x)) is not None


def test_what_stops_it(keras):
    for build in (
        lambda layers, x: layers.Dense(2)(layers.ReLU()(x)),
        lambda layers, x: layers.Conv2D(2, 3)(layers.ZeroPadding2D()(x)),
        lambda layers, x: layers.Conv2DTranspose(2, 3)(x),
        lambda layers, x: x,
        lambda layers, x: [x, layers.Dense(2)(x)],
    ):
        assert follow(keras, build) is None
    assert follow(keras, lambda layers, x: layers.Dense(2, name="kept")(x), kept=frozenset({"kept"})) is None


def test_signs_go_through_averages_and_not_through_maxima(keras):
    signs, none = np.array([1.0, -1, 0]), np.zeros(3)
    average = follow(keras, lambda layers, x: layers.Dense(2)(layers.AveragePooling2D()(x)), signs, none)
    assert average.changes[0].factor.tolist() == signs.tolist()
    assert follow(keras, lambda layers, x: layers.Dense(2)(layers.MaxPooling2D()(x)), signs, none) is None
    assert follow(keras, lambda layers, x: layers.Dense(2)(layers.ReLU()(x)), signs, none) is None


def test_sums_and_concatenations(keras):
    def joined(kind):
        return lambda layers, x: layers.Dense(2)(getattr(layers, kind)()([x, layers.Conv2D(3, 1)(layers.ReLU()(x))]))

    def beside(kind):
        def build(layers, x):
            other = layers.Conv2D(3, 1, name="other")(layers.Dropout(0.1)(x))
            return layers.Dense(2, name="end")(getattr(layers, kind)()([x, other]))

        return build

    assert follow(keras, joined("Add")) is None  # the ReLU reads it too
    for kind, wanted in (("Add", UP), ("Average", UP / 2), ("Concatenate", [*UP, 0, 0, 0])):
        found = follow(keras, beside(kind))
        assert {change.layer: change.offset.tolist() for change in found.changes} == {
            "other": UP.tolist(),
            "end": list(wanted),
        }
