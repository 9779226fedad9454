"""Check that channels are coupled index by index where tensors meet, or concatenated."""

import pytest

from stages.keras.channels.groups import channel_groups


def conv(keras, x, filters, name, **settings):
    return keras.layers.Conv2D(filters, 1, name=name, **settings)(x)


def head(keras, inputs, x):
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 2, name="after")(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


@pytest.mark.parametrize("kind", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
def test_element_wise_merges_couple(keras, cut, kind):
    image = keras.Input((5, 5, 3))
    branches = [conv(keras, image, 6, name) for name in ("a", "b")]
    result = cut(head(keras, image, getattr(keras.layers, kind)(name="merge")(branches)))
    (group, _) = result.graph.prunable
    assert group.makers == ("a", "b")
    assert group.channels.size == 6
    assert result.pruned.get_layer("a").filters == result.pruned.get_layer("b").filters < 6


def test_squeeze_and_excite_with_reshape(keras, cut, groups):
    image = keras.Input((5, 5, 3))
    x = conv(keras, image, 8, "a")
    squeezed = keras.layers.GlobalAveragePooling2D(name="squeeze")(x)
    squeezed = keras.layers.Reshape((1, 1, 8), name="reshape")(squeezed)
    squeezed = conv(keras, squeezed, 3, "reduce", activation="relu")
    squeezed = conv(keras, squeezed, 8, "expand", activation="sigmoid")
    model = head(keras, image, keras.layers.Multiply()([x, squeezed]))
    assert {name: size for name, size in groups(model).items() if isinstance(size, int)} == {
        "a": 8,
        "reduce": 3,
        "after": 4,
    }
    pruned = cut(model).pruned
    assert pruned.get_layer("reshape").target_shape == (1, 1, pruned.get_layer("a").filters)
    assert pruned.get_layer("expand").filters == pruned.get_layer("a").filters < 8


@pytest.mark.parametrize("keepdims", [True, False])
def test_excitation_by_dense_layers_broadcasts(keras, cut, keepdims):
    image = keras.Input((5, 5, 3))
    x = conv(keras, image, 8, "a")
    squeezed = keras.layers.GlobalMaxPooling2D(keepdims=keepdims)(x)
    squeezed = keras.layers.Dense(8, activation="hard_sigmoid", name="excite")(squeezed)
    pruned = cut(head(keras, image, keras.layers.Multiply()([squeezed, x]))).pruned
    assert pruned.get_layer("excite").units == pruned.get_layer("a").filters < 8


def test_spatial_attention_is_broadcast_over_channels_and_stays(keras, cut, groups):
    image = keras.Input((5, 5, 3))
    x = conv(keras, image, 6, "a")
    attention = conv(keras, x, 1, "attention", activation="sigmoid")
    model = head(keras, image, keras.layers.Multiply(name="scale")([x, attention]))
    assert groups(model)["attention"] == ["scale: broadcast over channels"]
    assert cut(model).pruned.get_layer("a").filters < 6


def test_adding_the_input_freezes(keras, groups):
    image = keras.Input((5, 5, 3), name="image")
    model = head(keras, image, keras.layers.Add()([image, conv(keras, image, 3, "a")]))
    assert groups(model) == {"image": ["image: model input"], "after": 4, "head": ["head: model output"]}
    assert channel_groups(model).groups[0].makers == ("image", "a")


def test_concatenation_keeps_groups_apart(keras, cut):
    image = keras.Input((5, 5, 3))
    x = keras.layers.Concatenate()([conv(keras, image, 6, "a"), image, conv(keras, image, 4, "b")])
    result = cut(head(keras, image, keras.layers.BatchNormalization(name="norm")(x)))
    pruned = result.pruned
    assert [group.name for group in result.graph.prunable] == ["a", "b", "after"]
    assert pruned.get_layer("norm").gamma.shape[0] == pruned.get_layer("a").filters + 3 + pruned.get_layer("b").filters


def test_concatenation_added_to_a_wide_layer_splits_its_channels(keras, cut):
    image = keras.Input((5, 5, 3))
    joined = keras.layers.Concatenate()([conv(keras, image, 6, "a"), conv(keras, image, 4, "b")])
    x = keras.layers.Add()([joined, conv(keras, image, 10, "wide")])
    result = cut(head(keras, image, x))
    assert [group.makers for group in result.graph.prunable] == [("a", "wide"), ("b", "wide"), ("after",)]
    pruned = result.pruned
    assert pruned.get_layer("wide").filters == pruned.get_layer("a").filters + pruned.get_layer("b").filters
    assert min(pruned.get_layer("a").filters, pruned.get_layer("b").filters) >= 1


def test_concatenation_along_space_couples(keras, cut):
    image = keras.Input((5, 5, 3))
    x = keras.layers.Concatenate(axis=1)([conv(keras, image, 6, "a"), conv(keras, image, 6, "b")])
    assert cut(head(keras, image, x)).graph.prunable[0].makers == ("a", "b")


def test_the_same_tensor_twice(keras, cut):
    image = keras.Input((5, 5, 3))
    x = conv(keras, image, 6, "a")
    x = keras.layers.Concatenate()([x, x])
    pruned = cut(head(keras, image, keras.layers.Multiply()([x, x]))).pruned
    assert pruned.get_layer("after").kernel.shape[2] == 2 * pruned.get_layer("a").filters


def test_channels_on_different_axes_freeze(keras, groups):
    image = keras.Input((6, 6, 3))
    a = conv(keras, image, 6, "a")
    b = keras.layers.Permute((3, 1, 2))(conv(keras, image, 6, "b"))
    found = groups(head(keras, image, keras.layers.Add(name="merge")([a, b])))
    assert found["a"] == found["b"] == ["merge: merges tensors with channels on different axes"]
