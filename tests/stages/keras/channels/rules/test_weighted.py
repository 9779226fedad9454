"""Test each kind of layer with weights, between two dense or convolutional ones, with random channels removed."""

import pytest

from stages.keras.channels.groups import channel_groups


def around(keras, *middle, filters=6, size=(7, 7, 3)):
    """Build image → convolution → the layers under test → convolution → pooling → head."""
    image = x = keras.Input(size, name="image")
    x = keras.layers.Conv2D(filters, 3, name="before")(x)
    for layer in middle:
        x = layer(x)
    x = keras.layers.Conv2D(5, 2, activation="relu", name="after")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, name="head")(x))


@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose", "SeparableConv2D"])
@pytest.mark.parametrize("bias", [True, False])
def test_what_makes_new_channels(keras, cut, groups, kind, bias):
    layer = getattr(keras.layers, kind)(8, 2, use_bias=bias, activation="tanh", name="middle")
    model = around(keras, layer)
    assert groups(model) == {
        "image": ["image: model input"],
        "before": 6,
        "middle": 8,
        "after": 5,
        "head": ["head: model output"],
    }
    pruned = cut(model).pruned
    assert pruned.get_layer("middle").filters == pruned.get_layer("middle").output_shape[-1] < 8


@pytest.mark.parametrize("kind", ["SeparableConv2D", "DepthwiseConv2D"])
@pytest.mark.parametrize("multiplier", [1, 3])
def test_depth_multipliers(keras, cut, kind, multiplier):
    arguments = (4, 3) if kind == "SeparableConv2D" else (3,)
    layer = getattr(keras.layers, kind)(*arguments, depth_multiplier=multiplier, name="middle")
    result = cut(around(keras, layer))
    read = result.pruned.get_layer("before").filters
    assert result.pruned.get_layer("middle").depthwise_kernel.shape == (3, 3, read, multiplier)
    if kind == "DepthwiseConv2D":
        assert result.pruned.get_layer("middle").output_shape[-1] == read * multiplier


@pytest.mark.parametrize(
    ("kind", "kernel"),
    [("Conv1D", 3), ("Conv1DTranspose", 3), ("SeparableConv1D", 3), ("DepthwiseConv1D", 3), ("Conv3D", 1)],
)
def test_other_ranks(keras, cut, kind, kernel):
    size = (4, 4, 4, 2) if kind == "Conv3D" else (9, 2)
    rank = "3D" if kind == "Conv3D" else "1D"
    arguments = (kernel,) if kind.startswith("Depthwise") else (6, kernel)
    signal = keras.Input(size)
    x = getattr(keras.layers, f"Conv{rank}")(8, 1)(signal)
    x = getattr(keras.layers, kind)(*arguments, name="middle")(x)
    x = keras.layers.BatchNormalization()(x)
    x = getattr(keras.layers, f"GlobalMaxPooling{rank}")()(x)
    result = cut(keras.Model(signal, keras.layers.Dense(2)(x)))
    assert len(result.graph.prunable) == (1 if kind.startswith("Depthwise") else 2)


def test_other_transposed_convolution(keras, cut):
    volume = keras.Input((3, 3, 3, 2))
    x = keras.layers.Conv3DTranspose(6, 2, name="middle")(keras.layers.Conv3D(5, 1, name="before")(volume))
    pruned = cut(keras.Model(volume, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling3D()(x)))).pruned
    assert (pruned.get_layer("middle").filters, pruned.get_layer("before").filters) < (6, 5)


@pytest.mark.parametrize("mask_zero", [True, False])
def test_an_embeddings_columns_are_channels(keras, cut, mask_zero):
    words = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 6, mask_zero=mask_zero, name="table")(words)
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Dropout(0.1)(x))
    pruned = cut(keras.Model(words, keras.layers.Dense(2)(x))).pruned
    table = pruned.get_layer("table")
    assert table.output_dim == table.embeddings.shape[1] < 6
    assert table.input_dim == 7


def test_grouped_convolution_loses_as_much_in_each_block(keras, cut, groups):
    model = around(keras, keras.layers.Conv2D(9, 3, groups=3, name="grouped"))
    assert groups(model)["before"] == 2  # six filters, three blocks: two places in each
    assert groups(model)["grouped"] == 3
    grouped = cut(model).pruned.get_layer("grouped")
    assert grouped.groups == 3
    assert grouped.filters in {3, 6}
    assert grouped.kernel.shape[2] == 1


def test_a_group_for_each_channel_is_a_depthwise_convolution(keras, cut, groups):
    model = around(keras, keras.layers.Conv2D(12, 3, groups=6, name="grouped"))
    assert groups(model)["before"] == 6
    assert "grouped" not in groups(model)
    pruned = cut(model).pruned
    assert pruned.get_layer("grouped").groups == pruned.get_layer("before").filters < 6
    assert pruned.get_layer("grouped").filters == 2 * pruned.get_layer("before").filters


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_dense_on_any_rank(keras, cut, rank):
    vector = keras.Input((4, 3, 2)[-rank:])
    x = keras.layers.Dense(8, activation="gelu", name="first")(vector)
    x = keras.layers.Dense(6, use_bias=False, name="second")(x)
    pruned = cut(keras.Model(vector, keras.layers.Dense(2, name="head")(x))).pruned
    assert pruned.get_layer("second").kernel.shape == (
        pruned.get_layer("first").units,
        pruned.get_layer("second").units,
    )


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_batch_normalization(keras, cut, center, scale):
    result = cut(around(keras, keras.layers.BatchNormalization(center=center, scale=scale, name="norm")))
    kept = result.pruned.get_layer("before").filters
    weights = result.pruned.get_layer("norm").get_weights()
    assert len(weights) == 2 + center + scale
    assert {weight.shape for weight in weights} == {(kept,)}


def test_batch_normalization_along_another_axis_freezes(keras, groups):
    found = groups(around(keras, keras.layers.BatchNormalization(axis=1, name="norm")))
    assert found["before"] == ["norm: batch normalization along another axis than the channels'"]


@pytest.mark.parametrize("shared", [None, [1, 2], [1, 2, 3]])
def test_prelu(keras, cut, shared):
    result = cut(around(keras, keras.layers.PReLU(shared_axes=shared, name="prelu")))
    kept = result.pruned.get_layer("before").filters
    assert kept < 6
    assert result.pruned.get_layer("prelu").alpha.shape[-1] == (1 if shared == [1, 2, 3] else kept)


def test_softmax_inside_a_layer_freezes_what_it_makes(keras, groups):
    model = around(keras, keras.layers.Conv2D(4, 1, activation="softmax", name="middle"))
    assert groups(model)["middle"] == ["middle: softmax across channels"]
    assert groups(model)["before"] == 6


def test_an_activation_of_the_users_own_freezes_even_under_a_known_name(keras, groups):
    def relu(x):
        return x - keras.backend.max(x, axis=-1, keepdims=True)

    model = around(keras, keras.layers.Conv2D(4, 1, activation=relu, name="middle"))
    assert groups(model)["middle"] == ["middle: unknown activation relu"]


def test_channels_first_shapes_are_understood(keras):
    # No CPU kernel runs these convolutions, so only the analysis is tested.
    image = keras.Input((3, 8, 8))
    x = keras.layers.Conv2D(6, 3, data_format="channels_first", name="first")(image)
    x = keras.layers.BatchNormalization(axis=1, name="norm")(x)
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.DepthwiseConv2D(3, data_format="channels_first", name="depthwise")(x)
    x = keras.layers.Flatten(data_format="channels_first")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="head")(x))
    group = channel_groups(model).prunable[0]
    assert (group.name, group.channels.size) == ("first", 6)
    assert {slot.layer for slot in group.pass_through} == {"norm", "depthwise"}
    (consumer,) = group.consumers
    assert consumer.layer == "head"
    assert consumer.channels[:7].tolist() == [*group.channels.tolist(), group.channels[0]]
