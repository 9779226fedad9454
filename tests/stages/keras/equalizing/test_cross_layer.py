import numpy as np
import pytest

from stages.keras.equalizing.channels import Channels
from stages.keras.equalizing.cross_layer import SMALLEST, apply_factors, choose_factors, tensors_read
from stages.keras.equalizing.draft import Draft
from stages.keras.equalizing.statistics import statistics_of
from stages.keras.regression.running import Network

X = np.random.default_rng(0).standard_normal((64, 6, 6, 2)).astype(np.float32)


def rounded(values, step):
    return np.round(values / step) * step


def int8_error(model):
    """Return the error of an int8 reader, by rounding what it reads and its weights, relative to its outputs."""
    reads = model.get_layer("read")(X).numpy()
    kernel, bias = model.get_layer("reader").get_weights()
    step = (reads.max() - min(reads.min(), 0)) / 255
    coarse = np.stack([rounded(w, np.abs(w).max() / 127) for w in np.moveaxis(kernel, -1, 0)], axis=-1)
    exact, found = reads @ kernel[0, 0] + bias, rounded(reads, step) @ coarse[0, 0] + bias
    return float(np.square(found - exact).mean() / exact.var())


@pytest.fixture
def uneven(keras, randomize):
    """Build a pair of convolutions; of what they hand on one channel is 50 times as large as the others."""
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(8, 1, activation="relu", name="read")(image)
    model = randomize(keras.Model(image, keras.layers.Conv2D(5, 1, name="reader")(x)))
    factors = np.array([50.0, *[1.0] * 7], np.float32)
    (kernel, bias), (reader, last) = (model.get_layer(name).get_weights() for name in ("read", "reader"))
    model.get_layer("read").set_weights([kernel * factors, bias * factors])
    model.get_layer("reader").set_weights([reader / factors[:, None], last])
    return model


def equalized(model):
    network, draft = Network.of(model), Draft(model)
    channels = Channels.of(network, frozenset())
    keys = {key for _, key in tensors_read(network, channels)}
    factors = choose_factors(network, channels, draft, statistics_of(network, [[X]], keys))
    return draft, apply_factors(channels, draft, factors), factors


def test_channels_become_alike_and_int8_loses_less(uneven):
    draft, notes, factors = equalized(uneven)
    made = draft.built()
    np.testing.assert_allclose(made(X), uneven(X), rtol=1e-4, atol=1e-4)
    assert int8_error(made) < int8_error(uneven) / 20
    (own,) = factors.values()
    assert own.max() / own.min() > 10
    assert own.min() >= SMALLEST * own.max()
    (note,) = notes
    assert note.startswith("read: its 8 channels are scaled by 1 to")


def test_channels_that_are_alike_are_left_as_they_are(keras, randomize):
    image = keras.Input((6, 6, 2))
    model = keras.Model(image, keras.layers.Conv2D(5, 1)(keras.layers.Conv2D(8, 1, activation="relu")(image)))
    draft, notes, factors = equalized(randomize(model))
    assert not notes
    assert not factors
    assert draft.built() is model


def test_a_depthwise_kernel_takes_any_factor(keras, uneven, randomize):
    image = keras.Input((6, 6, 2))
    x = uneven.get_layer("read")(image)
    model = keras.Model(image, keras.layers.DepthwiseConv2D(3, name="reader")(x))
    _, notes, factors = equalized(model)
    assert len(notes) == 1
    (own,) = factors.values()
    assert own[0] == own.max()  # the largest channel keeps its scale, the others get up to it
