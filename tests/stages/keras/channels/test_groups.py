import numpy as np
import pytest

from pipeline.errors import ModelError, PreconditionError
from stages.keras.channels.groups import channel_groups
from stages.keras.channels.labels import Role
from stages.prune.choosing.patterns import frozen_layers


def test_mini_xception_is_prunable_but_for_its_ends(mini_xception, groups):
    assert groups(mini_xception) == {
        "image": ["image: model input"],
        "block1_conv1": 16,
        "block1_conv2": 32,
        "block2_sepconv1": 64,
        "block2_sepconv2": 64,
        "block3_sepconv1": 128,
        "block3_sepconv2": 128,
        "block4_sepconv1": 128,
        "block5_sepconv1": 160,
        "head": ["head: softmax across channels", "head: model output"],
    }


def test_a_group_knows_who_makes_scales_and_reads_it(mini_xception):
    graph = channel_groups(mini_xception)
    group = next(group for group in graph.prunable if group.name == "block2_sepconv2")
    assert group.layers(Role.PRODUCER) == group.makers == ("block2_sepconv2", "block2_shortcut")
    assert group.layers(Role.PASS_THROUGH) == ("block2_sepconv2_bn", "block2_shortcut_bn", "block3_sepconv1")
    assert group.layers(Role.CONSUMER) == ("block3_sepconv1", "block3_shortcut")


def test_groups_hold_each_channel_once(mini_xception):
    graph = channel_groups(mini_xception)
    channels = np.concatenate([group.channels for group in graph.groups])
    assert sorted(channels.tolist()) == list(range(graph.count))


def test_a_layer_called_twice_has_one_set_of_channels(keras, cut):
    left, right = keras.Input((6, 6, 2)), keras.Input((6, 6, 2))
    stem_left = keras.layers.Conv2D(6, 1, name="left")(left)
    stem_right = keras.layers.Conv2D(6, 1, name="right")(right)
    shared = keras.layers.Conv2D(8, 3, name="shared")
    norm = keras.layers.BatchNormalization(name="norm")
    joined = keras.layers.Concatenate()([norm(shared(stem_left)), norm(shared(stem_right))])
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(joined))
    result = cut(keras.Model([left, right], outputs))
    assert [set(group.makers) for group in result.graph.prunable] == [{"left", "right"}, {"shared"}]
    pruned = result.pruned
    assert pruned.get_layer("left").filters == pruned.get_layer("right").filters < 6
    assert pruned.get_layer("shared").filters < 8
    assert len(pruned.get_layer("shared").inbound_nodes) == 2


def test_a_call_that_cannot_be_followed_freezes_the_layers_other_calls(keras, cut, groups):
    image = keras.Input((6, 6, 3))
    shared = keras.layers.Dense(6, name="shared")
    first = shared(keras.layers.Conv2D(6, 1, name="a")(image))
    second = shared(keras.layers.Permute((3, 2, 1))(keras.layers.Conv2D(5, 1, name="b")(image)))
    flat = [keras.layers.GlobalAveragePooling2D()(x) for x in (first, second)]
    model = keras.Model(image, keras.layers.Dense(2, name="head")(keras.layers.Concatenate()(flat)))
    found = groups(model)
    reason = ["shared: works along axis 3, where channels are on axis 1"]
    assert found["a"] == found["b"] == found["shared"] == reason
    assert cut(model).keep.all()


def test_sequential_models_and_several_outputs(keras, cut, groups):
    layers = [keras.layers.Dense(6, "relu", name="a"), keras.layers.Dense(5, name="b"), keras.layers.Dense(2, name="c")]
    assert cut(keras.Sequential([keras.Input((4,)), *layers])).pruned.get_layer("b").units < 5
    vector = keras.Input((4,), name="vector")
    early = keras.layers.Dense(6, name="early")(vector)
    late = keras.layers.Dense(3, name="late")(keras.layers.Dense(5, name="between")(early))
    found = groups(keras.Model(vector, [early, late]))
    assert found["early"] == ["early: model output"]
    assert found["between"] == 5


def test_exclusion_freezes_what_a_layer_makes_or_scales(mini_xception):
    names = [layer.name for layer in mini_xception.layers]
    graph = frozen_layers(channel_groups(mini_xception), ("block3_*", "block1_conv1_bn"), names)
    frozen = {group.name: [str(why) for why in group.frozen] for group in graph.groups}
    assert frozen["block1_conv1"] == ['block1_conv1_bn: excluded by "block1_conv1_bn"']
    assert frozen["block3_sepconv1"][0] == 'block3_sepconv1: excluded by "block3_*"'
    assert frozen["block2_sepconv2"] == ['block3_sepconv1: excluded by "block3_*"']  # its depthwise half
    assert frozen["block2_sepconv1"] == []


def test_a_pattern_that_matches_nothing_names_the_nearest(mini_xception):
    names = [layer.name for layer in mini_xception.layers]
    with pytest.raises(PreconditionError, match='no layer matches "blok1_conv"') as caught:
        frozen_layers(channel_groups(mini_xception), ("blok1_conv",), names)
    assert caught.value.where == "prune.exclude"
    assert "block1_conv1" in caught.value.hint


def test_a_model_without_a_graph_is_refused(keras):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ModelError, match="no layer graph") as caught:
        channel_groups(Subclassed(name="mine"))
    assert caught.value.where == "mine"
