import numpy as np
import pytest

from stages.prune.narrow.fresh_weights import untrained


def weights(model):
    return {weight.name: weight.numpy() for weight in model.weights}


@pytest.fixture
def network(keras, randomize):
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Normalization(name="scaled", mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])(image)
    x = layers.Conv2D(16, 3, kernel_initializer="he_normal", bias_initializer="ones", name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.ReLU(name="relu")(x))
    return randomize(keras.Model(image, layers.Dense(4, name="head")(x)))


def test_weights_are_those_of_the_initializers_and_not_the_model_s(network):
    before = weights(network)
    fresh = untrained(network, seed=1)
    now = weights(fresh.model)
    assert (fresh.thawed, fresh.kept, fresh.alike) == ((), (), ())
    assert now["conv/kernel:0"].std() == pytest.approx(np.sqrt(2 / 27), rel=0.1)  # he_normal's
    assert (now["conv/bias:0"] == 1).all()
    for name, value in {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}.items():
        assert (now[f"norm/{name}:0"] == value).all()
    assert [now[name].shape for name in now] == [before[name].shape for name in now]
    assert all((value == weights(network)[name]).all() for name, value in before.items())


def test_weights_follow_from_the_seed(network):
    first, again, other = (weights(untrained(network, seed).model) for seed in (1, 1, 2))
    assert all((value == again[name]).all() for name, value in first.items())
    for kernel in ("conv/kernel:0", "head/kernel:0"):
        assert not np.isclose(first[kernel], other[kernel]).all()


def test_what_is_no_result_of_training_stays(network, keras):
    adapted = keras.layers.Normalization(name="adapted")
    adapted.adapt(np.random.default_rng(0).normal(5, 2, (64, 8, 8, 3)))
    inputs = keras.Input((8, 8, 3))
    fresh = untrained(keras.Model(inputs, network(adapted(inputs))), seed=1).model
    for now, before in zip(fresh.get_layer("adapted").get_weights(), adapted.get_weights(), strict=True):
        assert (now == before).all()
    x = np.full((1, 8, 8, 3), 5.0, np.float32)
    assert np.abs(fresh.get_layer("adapted")(x)).max() < 1  # its constants are the statistics' again


def test_frozen_layers_are_trained(network):
    network.get_layer("conv").trainable = False
    fresh = untrained(network, seed=1)
    assert fresh.thawed == ("conv",)
    assert fresh.model.get_layer("conv").trainable
    assert len(fresh.model.trainable_weights) == 6
    assert not network.get_layer("conv").trainable


def test_a_held_variable_keeps_its_values_and_equal_weights_are_told(keras):
    layers = keras.layers
    index = keras.Input((1,), dtype="int32")
    row = layers.Flatten()(layers.Embedding(1, 6, name="held")(index))
    model = keras.Model(index, layers.Dense(3, kernel_initializer="zeros", name="head")(row))
    model.get_layer("held").set_weights([np.arange(6.0)[None]])
    fresh = untrained(model, seed=1)
    assert (fresh.kept, fresh.alike) == (("held",), ("head/kernel",))
    assert (fresh.model.get_layer("held").get_weights()[0] == np.arange(6.0)).all()
