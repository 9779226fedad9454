import json

import numpy as np
import pytest

from stages.keras.channels.left import channels_left, left_in
from stages.keras.flatten import flattened
from stages.keras.layer_kinds import kind_of
from stages.prune import PruneConfig, prune_model


def every_kind(keras):
    layers, image = keras.layers, keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", name="conv", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x))
    x = layers.ReLU()(layers.SeparableConv2D(6, 3, depth_multiplier=2, name="separable")(x))
    x = layers.ReLU()(layers.Conv2DTranspose(5, 2, name="transposed")(x))
    x = layers.Dense(7, activation="relu", name="dense")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(3, name="head")(x))


def outputs(layer):
    """Return a layer's values with its output channels last, and how many there are."""
    if kind_of(layer).folds:
        return layer.moving_mean.numpy()
    kernel = kind_of(layer).kernels[-1]
    values = getattr(layer, kernel.weight).numpy()
    if len(kernel.outputs) == 2:
        return values.reshape(*values.shape[:-2], -1)
    return np.moveaxis(values, kernel.outputs[0], -1)


def test_each_layer_still_makes_the_channels_that_are_named(keras, cut):
    """The source's weights of these channels are in the smaller network, where its inputs are whole or its own."""
    result = cut(every_kind(keras))
    left = channels_left(result.model, result.graph, result.keep)
    assert set(left) == {"conv", "norm", "depthwise", "separable", "transposed", "dense"}
    for name, places in left.items():
        now, before = outputs(result.pruned.get_layer(name)), outputs(result.model.get_layer(name))
        assert len(places) == now.shape[-1] < before.shape[-1]
        assert sorted(set(places.tolist())) == places.tolist()
        if name in ("conv", "norm", "depthwise"):  # the others read fewer channels
            np.testing.assert_array_equal(now, before[..., places])
        if result.model.get_layer(name).weights[-1].shape.rank == 1 and name not in ("conv", "norm"):
            bias = result.model.get_layer(name).bias.numpy()
            np.testing.assert_array_equal(result.pruned.get_layer(name).bias, bias[places])


def test_a_depthwise_layer_keeps_all_outputs_of_a_channel_that_stays(keras, cut):
    result = cut(every_kind(keras))
    left = channels_left(result.model, result.graph, result.keep)
    inputs = left["conv"].tolist()
    assert left["depthwise"].tolist() == [2 * channel + place for channel in inputs for place in (0, 1)]


def test_layers_that_lose_nothing_are_not_named(keras, cut):
    result = cut(every_kind(keras))
    assert channels_left(result.model, result.graph, np.ones_like(result.keep)) == {}
    assert "head" not in channels_left(result.model, result.graph, result.keep)


def test_layers_of_nested_models_have_their_names_in_the_flat_network(nested, randomize):
    model = randomize(nested)
    result = prune_model(model, PruneConfig(ratio=0.5))
    kept = result.report.kept
    assert set(kept) == {"stem", "second", "first"} & {layer.name for layer in flattened(model).layers}
    for name, places in kept.items():
        assert result.model.get_layer(name).units == len(places)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_a_report_gives_back_what_it_holds(keras, randomize, ratio):
    report = prune_model(randomize(every_kind(keras)), PruneConfig(ratio=ratio, scope="layer")).report
    found = left_in(report.to_json())
    assert {name: tuple(places.tolist()) for name, places in found.items()} == report.kept
    assert all(places.dtype == np.int64 for places in found.values())
    assert bool(found) == bool(ratio)
    assert json.loads(report.to_json())["schema_version"] == 3
    for group in report.groups:
        for name in group.producers:
            if name in report.kept and group.removed:
                assert not set(group.removed) & set(report.kept[name])
