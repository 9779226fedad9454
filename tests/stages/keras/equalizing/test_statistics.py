import numpy as np
import pytest

from stages.keras.equalizing.statistics import Statistics, statistics_of
from stages.keras.regression.running import Network


@pytest.fixture
def network(keras, randomize):
    image = keras.Input((4, 4, 2))
    made = keras.layers.Conv2D(3, 2, name="a")(image)
    return Network.of(randomize(keras.Model(image, keras.layers.GlobalMaxPooling2D(name="b")(made))))


def test_each_channel_over_all_batches(network):
    batches = [np.random.default_rng(seed).standard_normal((5, 4, 4, 2)).astype(np.float32) for seed in range(3)]
    keys = {call.layer: call.makes[0] for call in network.calls}
    found = statistics_of(network, [[batch] for batch in batches])
    values = np.concatenate([network.model.get_layer("a")(batch) for batch in batches]).astype(np.float64)
    for name, wanted in (("a", values), ("b", values.max(axis=(1, 2), keepdims=True))):
        seen, flat = found[keys[name]], wanted.reshape(-1, 3)
        np.testing.assert_allclose(seen.low, flat.min(axis=0), rtol=1e-5)
        np.testing.assert_allclose(seen.high, flat.max(axis=0), rtol=1e-5)
        np.testing.assert_allclose(seen.power, np.square(flat).mean(axis=0), rtol=1e-5)
    assert statistics_of(network, [[batches[0]]], {keys["b"]}).keys() == {keys["b"]}


def test_ranges_take_in_zero_and_follow_factors_and_offsets():
    seen = Statistics(np.array([1.0, -2]), np.array([3.0, -1]), np.ones(2))
    assert seen.reach.tolist() == [3, 2]
    assert seen.width() == 5
    assert seen.width(factor=np.array([3.0, 2])) == 2
    assert seen.width(offset=np.array([1.0, -2])) == 2
    seen.scale(np.array([2.0, 1]))
    seen.shift(np.array([-2.0, 0]))
    assert (seen.low.tolist(), seen.high.tolist(), seen.power.tolist()) == ([0, -2], [4, -1], [4, 1])
