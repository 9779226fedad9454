import numpy as np
import pytest

from pipeline.errors import PostconditionError, PreconditionError
from stages.keras.channels.groups import channel_groups
from stages.prune.surgery.equivalence import Equivalence, check_equivalence, masked_equivalence, random_inputs
from stages.prune.surgery.surgeon import remove_channels


def dense_net(keras, activation="softmax"):
    vector = keras.Input((4,), name="vector")
    x = keras.layers.Dense(6, activation="relu", name="first")(vector)
    return keras.Model(vector, keras.layers.Dense(3, activation=activation, name="head")(x), name="net")


def pruned_pair(keras, randomize, model):
    randomize(model)
    graph = channel_groups(model)
    keep = np.ones(graph.count, dtype=bool)
    keep[graph.prunable[0].channels[[1, 4]]] = False
    return graph, keep, remove_channels(model, graph, keep)


def test_wrong_surgery_is_caught(keras, randomize):
    """The right number of channels, but the wrong ones in the reader, as a mask in the wrong order would give."""
    model = dense_net(keras)
    graph, keep, pruned = pruned_pair(keras, randomize, model)
    kernel, bias = model.get_layer("head").get_weights()
    pruned.get_layer("head").set_weights([kernel[:4], bias])
    found = masked_equivalence(model, pruned, graph, keep)
    assert found.error > 1e-2
    with pytest.raises(PostconditionError, match="differs from the masked original"):
        check_equivalence(found, 2)


def test_one_wrong_bias_is_caught_behind_a_saturated_softmax(keras, randomize):
    model = dense_net(keras)
    graph, keep, pruned = pruned_pair(keras, randomize, model)
    for network in (model, pruned):  # class 0 wins with probability 1 whatever happens
        network.get_layer("head").bias.assign([1e3, 0.0, 0.0])
    pruned.get_layer("head").bias.assign([1e3, 1.0, 0.0])
    found = masked_equivalence(model, pruned, graph, keep)
    assert found.error > 5e-4


@pytest.mark.parametrize("closing", ["softmax", "sigmoid", "layer"])
def test_outputs_are_compared_before_they_are_squashed(keras, randomize, closing):
    model = dense_net(keras, None if closing == "layer" else closing)
    if closing == "layer":
        model = keras.Model(model.input, keras.layers.Softmax()(model.output))
    graph, keep, pruned = pruned_pair(keras, randomize, model)
    assert masked_equivalence(model, pruned, graph, keep).error < 1e-6
    pruned.get_layer("head").bias.assign_add([7.0, 7.0, 7.0])  # softmax would not change
    assert masked_equivalence(model, pruned, graph, keep).error > 0.1


def test_neither_model_is_changed(keras, randomize):
    model = dense_net(keras)
    graph, keep, pruned = pruned_pair(keras, randomize, model)
    before = [weight.copy() for weight in (*model.get_weights(), *pruned.get_weights())]
    masked_equivalence(model, pruned, graph, keep)
    for old, new in zip(before, (*model.get_weights(), *pruned.get_weights()), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("head").activation is keras.activations.softmax
    assert pruned.get_layer("head").activation is keras.activations.softmax


def test_a_check_that_nothing_could_fail_is_none(keras, randomize):
    model = dense_net(keras)
    graph, keep, _ = pruned_pair(keras, randomize, model)
    kernel, bias = model.get_layer("head").get_weights()
    kernel[[1, 4]] = 0  # nothing reads the channels that go
    model.get_layer("head").set_weights([kernel, bias])
    found = masked_equivalence(model, remove_channels(model, graph, keep), graph, keep)
    assert found.effect == 0
    with pytest.raises(PostconditionError, match="proves nothing"):
        check_equivalence(found, 2)
    check_equivalence(found, 0)


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_numbers_that_are_none_fail(error):
    with pytest.raises(PostconditionError, match="not finite"):
        check_equivalence(Equivalence(error, 1.0, 1.0), 1)


def test_a_model_that_says_the_same_of_all_inputs_is_weak_proof(keras, randomize):
    model = dense_net(keras)
    graph, keep, pruned = pruned_pair(keras, randomize, model)
    assert masked_equivalence(model, pruned, graph, keep).strong
    model.get_layer("first").bias.assign(-1e3 * np.ones(6))  # after its ReLU nothing changes any more
    again = masked_equivalence(model, remove_channels(model, graph, keep), graph, keep)
    assert (again.error, again.spread, again.strong) == (0.0, 0.0, False)


def test_random_inputs_fit_the_model(keras):
    ends = [keras.Input((None, 3)), keras.Input((5,), dtype="int32"), keras.Input((2,), batch_size=3)]
    x, integers, batch = random_inputs(keras.Model(ends, ends))
    assert x.shape[0] == integers.shape[0] == 4
    assert x.shape[2] == 3
    assert integers.dtype == np.int32
    assert set(integers.ravel().tolist()) == {0, 1}
    assert batch.shape == (3, 2)


def test_inputs_that_the_model_refuses(keras, randomize):
    model = dense_net(keras)
    graph, keep, pruned = pruned_pair(keras, randomize, model)
    with pytest.raises(PreconditionError, match="can't run on the inputs"):
        masked_equivalence(model, pruned, graph, keep, [np.zeros((2, 9), np.float32)])
