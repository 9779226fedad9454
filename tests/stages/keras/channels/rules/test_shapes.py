"""Check that layers which change a tensor's shape follow its channels, or say that they can't."""

import pytest


def image_net(keras, *middle, size=(6, 6, 2), filters=4, dense=5):
    image = x = keras.Input(size)
    x = keras.layers.Conv2D(filters, 3, name="before")(x)
    for layer in middle:
        x = layer(x)
    return keras.Model(image, keras.layers.Dense(2, name="head")(keras.layers.Dense(dense, name="after")(x)))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("MaxPooling2D", {}),
        ("AveragePooling2D", {"pool_size": 3, "strides": 1, "padding": "same"}),
        ("ZeroPadding2D", {}),
        ("Cropping2D", {}),
        ("UpSampling2D", {"interpolation": "bilinear"}),
        ("Resizing", {"height": 5, "width": 3}),
        ("CenterCrop", {"height": 2, "width": 3}),
        ("GlobalMaxPooling2D", {}),
        ("GlobalAveragePooling2D", {"keepdims": True}),
        ("Flatten", {}),
        ("Permute", {"dims": (2, 1, 3)}),
    ],
)
def test_passes_channels_on(keras, cut, kind, settings):
    pruned = cut(image_net(keras, getattr(keras.layers, kind)(**settings))).pruned
    assert pruned.get_layer("before").filters < 4
    assert pruned.get_layer("after").units < 5


@pytest.mark.parametrize("kind", ["MaxPooling1D", "AveragePooling1D", "ZeroPadding1D", "Cropping1D", "UpSampling1D"])
def test_passes_channels_on_in_one_dimension(keras, cut, kind):
    signal = keras.Input((8, 2))
    x = getattr(keras.layers, kind)()(keras.layers.Conv1D(6, 3, padding="causal", name="before")(signal))
    x = keras.layers.GlobalAveragePooling1D()(x)
    assert cut(keras.Model(signal, keras.layers.Dense(2)(x))).pruned.get_layer("before").filters < 6


@pytest.mark.parametrize(
    "kind", ["MaxPooling3D", "AveragePooling3D", "ZeroPadding3D", "Cropping3D", "UpSampling3D", "GlobalMaxPooling3D"]
)
def test_passes_channels_on_in_three_dimensions(keras, cut, kind):
    volume = keras.Input((4, 4, 4, 2))
    x = getattr(keras.layers, kind)()(keras.layers.Conv3D(6, 1, name="before")(volume))
    x = keras.layers.Conv3D(4, 1, name="after")(x) if "Global" not in kind else x
    pruned = cut(keras.Model(volume, keras.layers.Dense(2)(keras.layers.Flatten()(x)))).pruned
    assert pruned.get_layer("before").filters < 6


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Conv2D", {"filters": 6, "kernel_size": 2}),
        ("Conv2D", {"filters": 8, "kernel_size": 2, "groups": 2}),
        ("DepthwiseConv2D", {"kernel_size": 2, "depth_multiplier": 2}),
        ("SeparableConv2D", {"filters": 6, "kernel_size": 2}),
        ("Conv2DTranspose", {"filters": 6, "kernel_size": 2}),
        ("MaxPooling2D", {}),
        ("AveragePooling2D", {}),
        ("ZeroPadding2D", {}),
        ("Cropping2D", {}),
        ("UpSampling2D", {}),
        ("GlobalAveragePooling2D", {"keepdims": True}),
        ("GlobalMaxPooling2D", {}),
        ("Flatten", {}),
    ],
)
def test_channels_first(keras, cut, kind, settings):
    image = keras.Input((2, 6, 6))
    x = keras.layers.Conv2D(8, 2, data_format="channels_first", name="before")(image)
    x = keras.layers.PReLU(shared_axes=[2, 3])(keras.layers.BatchNormalization(axis=1)(x))
    x = getattr(keras.layers, kind)(**settings, data_format="channels_first")(x)
    if len(x.shape) == 4:
        x = keras.layers.Add()([x, keras.layers.Conv2D(x.shape[1], 1, data_format="channels_first")(x)])
        x = keras.layers.Flatten(data_format="channels_first")(x)
    pruned = cut(keras.Model(image, keras.layers.Dense(2)(x))).pruned
    assert pruned.get_layer("before").filters < 8


def test_flattened_positions_are_read_by_a_dense_layer(keras, cut):
    result = cut(image_net(keras, keras.layers.Flatten()))
    assert result.pruned.get_layer("after").kernel.shape[0] == 4 * 4 * result.pruned.get_layer("before").filters


@pytest.mark.parametrize(
    ("target", "place"), [((16, 4), 1), ((-1, 4), 1), ((2, 8, 4), 2), ((1, 16, 1, 4), 3), ((16, -1), 1)]
)
def test_reshape_that_keeps_channels(keras, cut, target, place):
    pruned = cut(image_net(keras, keras.layers.Reshape(target, name="reshape"), keras.layers.Flatten())).pruned
    kept = pruned.get_layer("before").filters
    assert kept < 4
    assert pruned.get_layer("reshape").output_shape[1 + place] == kept


def test_reshape_that_joins_positions_and_channels(keras, cut):
    pruned = cut(image_net(keras, keras.layers.Reshape((8, 8), name="reshape"), keras.layers.Flatten())).pruned
    assert pruned.get_layer("reshape").target_shape == (8, 2 * pruned.get_layer("before").filters)


def test_flatten_and_back(keras, cut):
    layers = (keras.layers.Flatten(), keras.layers.Reshape((4, 4, 4), name="back"), keras.layers.GlobalMaxPooling2D())
    assert cut(image_net(keras, *layers)).pruned.get_layer("back").output_shape[-1] < 4


@pytest.mark.parametrize("target", [(32, 2), (4, 4, 2, 2)])
def test_reshape_through_channels_freezes(keras, cut, groups, target):
    model = image_net(keras, keras.layers.Reshape(target, name="reshape"), keras.layers.Flatten())
    assert groups(model)["before"] == ["reshape: reshapes the channel axis"]
    assert cut(model).pruned.get_layer("before").filters == 4


def test_reshape_of_unknown_size(keras, cut, groups):
    reshape = keras.layers.Reshape((-1, 4), name="reshape")
    model = image_net(keras, reshape, keras.layers.GlobalAveragePooling1D(), size=(None, None, 2))
    assert groups(model)["before"] == 4
    assert cut(model).pruned.get_layer("reshape").target_shape[1] < 4


def test_a_vector_repeated_in_time(keras, cut):
    vector = keras.Input((3,))
    x = keras.layers.RepeatVector(4)(keras.layers.Dense(6, name="before")(vector))
    x = keras.layers.Flatten()(keras.layers.Conv1D(5, 2)(x))
    assert cut(keras.Model(vector, keras.layers.Dense(2)(x))).pruned.get_layer("before").units < 6


def test_pooling_across_the_channel_axis_freezes(keras, groups):
    layers = (keras.layers.Permute((3, 1, 2)), keras.layers.GlobalAveragePooling2D(name="pool"))
    reason = "pool: works along axis 3, where channels are on axis 1"
    assert groups(image_net(keras, *layers))["before"] == [reason]


def test_dense_across_another_axis_than_the_channels_freezes(keras, groups):
    reason = "after: works along axis 3, where channels are on axis 1"
    assert groups(image_net(keras, keras.layers.Permute((3, 1, 2))))["before"] == [reason]
