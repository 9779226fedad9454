"""Check that allocation's cost of a network equals the pruned network's."""

import numpy as np
import pytest

from stages.keras.channels.groups import channel_groups
from stages.keras.flatten import flattened
from stages.keras.macs import count_macs
from stages.keras.normal_form import keras_facts
from stages.prune.choosing.allocate import kept_channels
from stages.prune.choosing.cost import cost_of, worths
from stages.prune.surgery.surgeon import remove_channels


def grouped(keras):
    image = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(16, 3, groups=4, name="grouped")(keras.layers.Conv2D(8, 1, name="first")(image))
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = keras.layers.Conv2DTranspose(6, 2, name="transposed")(x)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    return keras.Model(image, keras.layers.Dense(3, name="head")(x))


def joined(keras):
    image = keras.Input((9, 9, 2))
    a = keras.layers.Conv2D(6, 3, padding="same", name="a")(image)
    b = keras.layers.SeparableConv2D(6, 3, padding="same", name="b")(image)
    c = keras.layers.Concatenate()([keras.layers.Add()([a, b]), keras.layers.Conv2D(4, 1, name="c")(image), a])
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 3, name="d")(c))
    return keras.Model(image, keras.layers.Dense(3, name="head")(keras.layers.Dense(7, name="e")(x)))


def video(keras):
    frames, layers = keras.Input((3, 6, 6, 2)), keras.layers
    x = layers.TimeDistributed(layers.Conv2D(6, 3, activation="relu"), name="frames")(frames)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True), name="both")(x)
    x = layers.Attention()([layers.Dense(5, name="mixed")(x), layers.Dense(5, name="read")(x)])
    x = layers.SimpleRNN(3, name="plain")(layers.LSTM(6, return_sequences=True, name="lstm")(x))
    return keras.Model(frames, layers.Dense(3, name="head")(layers.Dense(5, name="hidden")(x)))


NETWORKS = {"grouped": grouped, "joined": joined, "video": video}


def measured(model, measure):
    if measure == "macs":
        return count_macs(model)
    if measure == "bytes":
        return sum(int(np.prod(w.shape)) * w.dtype.size for w in model.weights)
    return model.count_params()


CASES = [(name, measure) for name in (*NETWORKS, "mini_xception") for measure in ("macs", "params", "bytes")]


@pytest.mark.parametrize(("name", "measure"), [case for case in CASES if case[0] != "video" or case[1] == "macs"])
def test_the_cost_of_counts_is_that_of_the_pruned_model(name, measure, keras, randomize, request):
    model = request.getfixturevalue(name) if name == "mini_xception" else randomize(NETWORKS[name](keras))
    model = flattened(model)
    graph = channel_groups(model)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(group.channels.size) for group in graph.prunable]
    cost = cost_of(model, graph, graph.prunable, orders, measure)
    assert cost([group.channels.size for group in graph.prunable]) == pytest.approx(measured(model, measure))
    for _ in range(2):
        counts = [int(rng.integers(1, group.channels.size + 1)) for group in graph.prunable]
        pruned = remove_channels(model, graph, kept_channels(graph, graph.prunable, orders, counts))
        assert cost(counts) == pytest.approx(measured(pruned, measure))
        assert sum(cost.by_layer(counts).values()) == pytest.approx(measured(pruned, measure))


def test_the_worth_of_a_channel_is_what_goes_with_it(keras, randomize):
    model = randomize(joined(keras))
    graph = channel_groups(model)
    found = worths(model, graph, graph.prunable, "params")
    for index, group in enumerate(graph.prunable):
        keep = np.ones(graph.count, dtype=bool)
        keep[group.channels[0]] = False
        less = model.count_params() - remove_channels(model, graph, keep).count_params()
        assert found[index][0] == pytest.approx(less), group.name


def test_facts_count_the_same_macs(keras, randomize):
    model = randomize(grouped(keras))
    graph = channel_groups(model)
    sizes = [group.channels.size for group in graph.prunable]
    orders = [np.arange(size) for size in sizes]
    assert cost_of(model, graph, graph.prunable, orders, "macs")(sizes) == keras_facts(model).macs
