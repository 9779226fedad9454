"""Test which groups are one class: equal structure up to the number of channels, on networks as people build them."""

import pytest

from stages.keras.channels.groups import channel_groups
from stages.prune.ranking.isomorphism import isomorphism_classes


def classes_of(model):
    graph = channel_groups(model)
    numbers = isomorphism_classes(model, graph)
    assert list(dict.fromkeys(numbers)) == list(range(len(set(numbers))))  # counted in the order of appearance
    return {group.name: number for group, number in zip(graph.prunable, numbers, strict=True)}


def chain(keras, *convolutions):
    """Build convolutions one after the other, each between two plain 3×3 ones, so that its surroundings are equal."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    for index, between in enumerate(convolutions):
        x = layers.Conv2D(6 + index, 3, padding="same", name=f"before{index}")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = between(layers, f"tested{index}")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Conv2D(5, 3, padding="same", name=f"after{index}")(x)
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def conv(size, filters=8, **settings):
    return lambda layers, name: layers.Conv2D(filters, size, padding="same", name=name, **settings)


def test_groups_that_differ_in_size_alone_are_one_class(keras):
    found = classes_of(chain(keras, conv(3, 8), conv(3, 32), conv(3, 16, use_bias=False, dilation_rate=2)))
    assert found["tested0"] == found["tested1"] == found["tested2"]
    assert found["before0"] == found["before1"] == found["before2"]
    assert found["stem"] == found["after0"] == found["after1"] != found["tested0"]  # without batch normalization
    assert found["after2"] not in {found["after0"], found["tested0"]}  # read by a dense layer


@pytest.mark.parametrize(
    "other",
    [
        conv(1),
        lambda layers, name: layers.SeparableConv2D(8, 3, padding="same", name=name),
        conv(3, groups=2, filters=10),
    ],
)
def test_other_kernels_kinds_and_blocks_are_other_classes(keras, other):
    layers = keras.layers
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, padding="same", name="first")(image)
    x = layers.Conv2D(10, 3, padding="same", name="plain")(x)
    x = layers.Conv2D(10, 3, padding="same", name="again")(x)
    x = layers.Conv2D(10, 3, padding="same", name="last")(other(layers, "other")(x))
    found = classes_of(keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))
    assert found["first"] == found["plain"]
    assert found["other"] != found["plain"]
    assert found["again"] != found["plain"]  # what reads it is other


def test_what_a_depthwise_convolution_scales_is_no_class_with_what_a_dense_one_reads(keras):
    depthwise = lambda layers, name: layers.DepthwiseConv2D(3, padding="same", name=name)  # noqa: E731 - as the others
    found = classes_of(chain(keras, depthwise, conv(3)))
    assert found["before0"] != found["before1"]
    assert found["before1"] == found["tested1"]


def test_residual_streams_are_alike_if_as_many_blocks_add_to_them(keras):
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(image)
    for stage, (width, blocks) in enumerate([(8, 2), (16, 2), (24, 1)]):
        x = layers.Conv2D(width, 1, name=f"enter{stage}")(x)
        for block in range(blocks):
            y = layers.Conv2D(width * 2, 3, padding="same", name=f"inner{stage}_{block}")(x)
            x = layers.Add()([x, layers.Conv2D(width, 3, padding="same", name=f"outer{stage}_{block}")(y)])
    x = layers.Conv2D(4, 1, name="tail")(x)
    found = classes_of(keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))
    assert found["enter0"] == found["enter1"] != found["enter2"]
    assert len({found[f"inner{place}"] for place in ("0_0", "0_1", "1_0", "1_1", "2_0")}) == 1


def test_a_dense_layer_after_flatten_reads_as_many_places_as_a_kernel_of_that_size(keras):
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    flat, pooled = (layers.Conv2D(4, 3, name=name)(image) for name in ("flat", "pooled"))
    dense = [layers.Dense(5)(layers.Flatten()(flat)), layers.Dense(5)(layers.GlobalAveragePooling2D()(pooled))]
    found = classes_of(keras.Model(image, dense))
    assert found["flat"] != found["pooled"]
