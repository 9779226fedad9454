import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import PostconditionError, PreconditionError
from stages.prune.equivalence import Equivalence, check_equivalence, masked_equivalence, random_inputs
from stages.prune.groups import channel_groups
from stages.prune.surgeon import remove_channels


def grow(keras, image, operations, widths):
    """A random network: each operation works on what is there, some join it with something older."""
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    seen = [x]
    for operation, width in zip(operations, widths, strict=True):
        x = STEPS[operation](keras.layers, x, seen[width % len(seen)], width)
        seen.append(x)
    return x


def separable(layers, x, older, width):
    return layers.SeparableConv2D(width, 3, padding="same", depth_multiplier=1 + width % 2)(x)


def depthwise(layers, x, older, width):
    return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1 + width % 2)(x)


def grouped(layers, x, older, width):
    return layers.Conv2D(2 * width, 3, padding="same", groups=2 if x.shape[-1] % 2 == 0 else 1)(x)


def residual(layers, x, older, width):
    channels = x.shape[-1]
    return layers.Add()([x, older if older.shape[-1] == channels else layers.Conv2D(channels, 1)(older)])


def excite(layers, x, older, width):
    squeezed = layers.Reshape((1, 1, x.shape[-1]))(layers.GlobalAveragePooling2D()(x))
    squeezed = layers.Conv2D(width, 1, activation="relu")(squeezed)
    return layers.Multiply()([x, layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(squeezed)])


STEPS = {
    "conv": lambda layers, x, older, width: layers.Conv2D(width, 3, padding="same", activation="relu")(x),
    "separable": separable,
    "depthwise": depthwise,
    "grouped": grouped,
    "residual": residual,
    "concat": lambda layers, x, older, width: layers.Concatenate()([x, older]),
    "excite": excite,
    "norm": lambda layers, x, older, width: layers.BatchNormalization()(x),
    "prelu": lambda layers, x, older, width: layers.PReLU(shared_axes=[1, 2])(x),
    "pool": lambda layers, x, older, width: layers.AveragePooling2D(3, strides=1, padding="same")(x),
}


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(
    operations=st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=7),
    data=st.data(),
    flat=st.booleans(),
    seed=st.integers(0, 999),
)
def test_any_channels_can_go_from_any_network(keras, cut, operations, data, flat, seed):
    widths = [data.draw(st.integers(2, 7)) for _ in operations]
    image = keras.Input((5, 4, 2))
    x = grow(keras, image, operations, widths)
    x = keras.layers.Flatten()(x) if flat else keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, activation="tanh")(x)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head")(x))
    result = cut(model, seed)  # holds masked equivalence
    frozen = [group.makers for group in result.graph.groups if group.frozen]
    assert {name for makers in frozen for name in makers} >= {"head"}
    assert not result.keep.all()
    keras.backend.clear_session()


def dense_net(keras, activation="softmax"):
    vector = keras.Input((4,), name="vector")
    x = keras.layers.Dense(6, activation="relu", name="first")(vector)
    return keras.Model(vector, keras.layers.Dense(3, activation=activation, name="head")(x), name="net")


def pruned_pair(keras, randomise, model):
    randomise(model)
    graph = channel_groups(model)
    keep = np.ones(graph.count, dtype=bool)
    keep[graph.prunable[0].channels[[1, 4]]] = False
    return graph, keep, remove_channels(model, graph, keep)


def test_wrong_surgery_is_caught(keras, randomise):
    """The right number of channels, but the wrong ones of the reader: what a mask in the wrong order does."""
    model = dense_net(keras)
    graph, keep, pruned = pruned_pair(keras, randomise, model)
    kernel, bias = model.get_layer("head").get_weights()
    pruned.get_layer("head").set_weights([kernel[:4], bias])
    found = masked_equivalence(model, pruned, graph, keep)
    assert found.error > 1e-2
    with pytest.raises(PostconditionError, match="differs from the masked original"):
        check_equivalence(found, 2)


def test_one_wrong_bias_is_caught_behind_a_saturated_softmax(keras, randomise):
    model = dense_net(keras)
    graph, keep, pruned = pruned_pair(keras, randomise, model)
    for network in (model, pruned):  # class 0 wins with probability 1 whatever happens
        network.get_layer("head").bias.assign([1e3, 0.0, 0.0])
    pruned.get_layer("head").bias.assign([1e3, 1.0, 0.0])
    found = masked_equivalence(model, pruned, graph, keep)
    assert found.error > 5e-4


@pytest.mark.parametrize("closing", ["softmax", "sigmoid", "layer"])
def test_outputs_are_compared_before_they_are_squashed(keras, randomise, closing):
    model = dense_net(keras, None if closing == "layer" else closing)
    if closing == "layer":
        model = keras.Model(model.input, keras.layers.Softmax()(model.output))
    graph, keep, pruned = pruned_pair(keras, randomise, model)
    assert masked_equivalence(model, pruned, graph, keep).error < 1e-6
    pruned.get_layer("head").bias.assign_add([7.0, 7.0, 7.0])  # softmax would not change
    assert masked_equivalence(model, pruned, graph, keep).error > 0.1


def test_neither_model_is_changed(keras, randomise):
    model = dense_net(keras)
    graph, keep, pruned = pruned_pair(keras, randomise, model)
    before = [weight.copy() for weight in (*model.get_weights(), *pruned.get_weights())]
    masked_equivalence(model, pruned, graph, keep)
    for old, new in zip(before, (*model.get_weights(), *pruned.get_weights()), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("head").activation is keras.activations.softmax
    assert pruned.get_layer("head").activation is keras.activations.softmax


def test_a_check_that_nothing_could_fail_is_none(keras, randomise):
    model = dense_net(keras)
    graph, keep, _ = pruned_pair(keras, randomise, model)
    kernel, bias = model.get_layer("head").get_weights()
    kernel[[1, 4]] = 0  # nobody listens to the channels that go
    model.get_layer("head").set_weights([kernel, bias])
    found = masked_equivalence(model, remove_channels(model, graph, keep), graph, keep)
    assert found.effect == 0
    with pytest.raises(PostconditionError, match="proves nothing"):
        check_equivalence(found, 2)
    check_equivalence(found, 0)


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_numbers_that_are_none_fail(error):
    with pytest.raises(PostconditionError, match="not finite"):
        check_equivalence(Equivalence(error, 1.0), 1)


def test_random_inputs_fit_the_model(keras):
    ends = [keras.Input((None, 3)), keras.Input((5,), dtype="int32"), keras.Input((2,), batch_size=3)]
    x, integers, batch = random_inputs(keras.Model(ends, ends))
    assert x.shape[0] == integers.shape[0] == 4
    assert x.shape[2] == 3
    assert integers.dtype == np.int32
    assert set(integers.ravel().tolist()) == {0, 1}
    assert batch.shape == (3, 2)


def test_inputs_that_the_model_refuses(keras, randomise):
    model = dense_net(keras)
    graph, keep, pruned = pruned_pair(keras, randomise, model)
    with pytest.raises(PreconditionError, match="can't run on the inputs"):
        masked_equivalence(model, pruned, graph, keep, [np.zeros((2, 9), np.float32)])
