"""Check that nested models become one graph that computes the same and can be pruned throughout."""

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.flatten import flattened, layers_by_flat_name
from stages.keras.normal_form import random_inputs
from stages.prune import PruneConfig, prune_model


def branch(keras, name, channels=6, inside=3):
    image = keras.Input((6, 6, channels), name=f"{name}_image")
    x = keras.layers.Conv2D(inside, 3, padding="same", activation="relu", name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(channels, 1, name="back")(x)
    return keras.Model(image, keras.layers.Add(name="add")([image, x]), name=name)


def closed(keras, inputs, x, name="net"):
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x), name=name)


def assert_same(model, flat):
    inputs = random_inputs(model)
    np.testing.assert_allclose(model(inputs, training=False), flat(inputs, training=False), rtol=1e-6, atol=1e-6)


def test_a_flat_model_is_itself(mini_xception):
    assert flattened(mini_xception) is mini_xception


def test_original_layers_are_found_by_their_flat_names(keras, randomize):
    image = keras.Input((6, 6, 2), name="image")
    x = keras.layers.Conv2D(6, 1, name="conv")(image)  # a name that both branches use as well
    model = closed(keras, image, branch(keras, "second")(branch(keras, "first")(x)))
    randomize(model)
    layers, flat = layers_by_flat_name(model), flattened(model)
    assert set(layers) == {layer.name for layer in flat.layers}
    assert {layers["first_conv"], layers["conv"]} <= {*model.get_layer("first").layers, *model.layers}
    for layer in flat.layers:
        for copied, own in zip(layer.get_weights(), layers[layer.name].get_weights(), strict=True):
            np.testing.assert_array_equal(copied, own)
    plain = branch(keras, "plain")
    assert layers_by_flat_name(plain) == {layer.name: layer for layer in plain.layers}


def test_nested_three_deep(keras, cut, randomize):
    image = keras.Input((6, 6, 2), name="image")
    outer_image = keras.Input((6, 6, 4), name="outer_image")
    outer = keras.Model(
        outer_image,
        branch(keras, "inner")(keras.layers.Conv2D(6, 1, name="widen")(outer_image)),
        name="outer",
    )
    model = randomize(closed(keras, image, outer(keras.layers.Conv2D(4, 1, name="stem")(image))))
    flat = flattened(model)
    assert flat.name == "net"
    assert [layer.name for layer in flat.layers] == [
        *("image", "stem", "widen", "conv", "norm", "back", "add", "pool", "head")
    ]
    assert_same(model, flat)
    assert {group.name for group in cut(model).graph.prunable} == {"stem", "widen", "conv"}


def test_one_model_called_twice_is_layers_called_twice(keras, cut, randomize):
    image = keras.Input((6, 6, 2), name="image")
    x = keras.layers.Conv2D(6, 1, name="stem")(image)
    shared = branch(keras, "shared")
    model = randomize(closed(keras, image, shared(shared(x))))
    assert_same(model, flattened(model))
    pruned = cut(model).pruned
    assert len(pruned.get_layer("conv").inbound_nodes) == 2
    assert pruned.get_layer("conv").filters < 3
    assert pruned.get_layer("stem").filters == pruned.get_layer("back").filters < 6


def test_names_that_clash_get_their_models_name(keras, randomize):
    image = keras.Input((6, 6, 6), name="image")
    x = keras.layers.Conv2D(6, 1, name="conv")(image)
    model = randomize(closed(keras, image, branch(keras, "second")(branch(keras, "first")(x))))
    flat = flattened(model)
    names = [layer.name for layer in flat.layers]
    assert len(set(names)) == len(names)
    assert {"conv", "first_conv", "second_conv", "first_add", "second_norm"} <= set(names)
    assert_same(model, flat)


@pytest.mark.parametrize("inner_is_chain", [True, False])
def test_a_chain_of_chains_stays_sequential(keras, cut, inner_is_chain):
    inner = keras.Sequential([keras.Input((6, 6, 6)), keras.layers.Conv2D(5, 1, name="a")], name="inner")
    if not inner_is_chain:
        inner = branch(keras, "inner")
    ends = (keras.layers.GlobalMaxPooling2D(name="pool"), keras.layers.Dense(2, name="head"))
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(6, 1, name="stem"), inner, *ends], name="net")
    pruned = cut(model).pruned
    assert isinstance(pruned, keras.Sequential) is inner_is_chain
    assert pruned.name == "net"


def test_trainability_regularisers_and_call_arguments_are_kept(keras, randomize):
    inner_image = keras.Input((6, 6, 2))
    conv = keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(0.1), name="conv")
    inner = keras.Model(inner_image, keras.layers.Dropout(0.5, name="drop")(conv(inner_image)), name="inner")
    inner.trainable = False
    image = keras.Input((6, 6, 2), name="image")
    model = randomize(closed(keras, image, inner(image, training=False)))
    flat = flattened(model)
    assert [layer.name for layer in flat.layers if layer.trainable_weights] == ["head"]
    assert float(flat.get_layer("conv").kernel_regularizer.l2) == pytest.approx(0.1)
    inputs = random_inputs(model)
    np.testing.assert_array_equal(flat(inputs, training=True), flat(inputs, training=False))  # no dropout inside


def test_inputs_by_name_and_several_outputs(keras, cut):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    inner = keras.Model({"a": a, "b": b}, [keras.layers.Dense(5)(a), keras.layers.Dense(6)(b)], name="inner")
    b_outer, a_outer = keras.Input((3,), name="b_outer"), keras.Input((4,), name="a_outer")
    left, right = inner({"b": b_outer, "a": a_outer})
    ends = {"y": keras.layers.Dense(2, name="y")(left), "z": keras.layers.Dense(2, name="z")(right)}
    model = keras.Model([b_outer, a_outer], ends)
    assert_same_dicts(model, flattened(model))
    assert len(cut(model).graph.prunable) == 2


def assert_same_dicts(model, flat):
    inputs = random_inputs(model)
    expected, found = model(inputs), flat(inputs)
    assert list(expected) == list(found)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)


def test_adapted_normalization_keeps_its_statistics(keras, randomize):
    normalize = keras.layers.Normalization(name="normalize")
    normalize.adapt(np.random.default_rng(0).normal(5, 3, (16, 6, 6, 2)))
    image = keras.Input((6, 6, 2), name="image")
    inner = keras.Sequential([keras.Input((6, 6, 2)), normalize, keras.layers.Conv2D(6, 1, name="conv")], name="inner")
    model = closed(keras, image, inner(image))
    assert_same(model, flattened(model))
    pruned = prune_model(model, PruneConfig(ratio=0.5)).model
    np.testing.assert_array_equal(pruned.get_layer("normalize").mean, normalize.mean)


def test_a_nested_model_with_a_call_of_its_own_is_left_alone(keras, groups, cut):
    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training, mask)

    inner_image = keras.Input((6, 6, 6))
    inner = Doubled(inner_image, keras.layers.Conv2D(6, 1, name="inside")(inner_image), name="mine")
    image = keras.Input((6, 6, 2), name="image")
    model = closed(keras, image, inner(keras.layers.Conv2D(6, 1, name="stem")(image)))
    assert flattened(model) is model
    assert groups(model)["stem"] == ["mine: unknown layer kind Doubled"]


def test_a_model_without_a_graph_is_refused(keras):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ModelError, match="no layer graph"):
        flattened(Subclassed(name="mine"))


def test_several_outputs_keep_their_names_where_a_nested_model_gave_one(keras):
    image = keras.Input((6, 6, 6), name="image")
    x = branch(keras, "body")(image)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    entry = keras.Input((6,), name="entry")
    nested = keras.Model(entry, keras.layers.Dense(2, name="inside")(entry), name="kind")
    model = keras.Model(image, [nested(pooled), keras.layers.Dense(1, name="level")(pooled)], name="net")
    flat = flattened(model)
    assert flat.output_names == model.output_names == ["kind", "level"]
    for one, other in zip(model(random_inputs(model)), flat(random_inputs(model)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    pruned = prune_model(model, PruneConfig(ratio=0.3)).model
    assert pruned.output_names == ["kind", "level"]
