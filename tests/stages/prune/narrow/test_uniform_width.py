import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.keras.macs import count_macs
from stages.prune.config import PruneConfig
from stages.prune.narrow.config import NarrowConfig
from stages.prune.narrow.uniform_width import narrowed
from stages.prune.pruning import prune_model


@pytest.mark.parametrize("share", [0.8, 0.5, 0.2])
def test_every_group_keeps_the_same_share_and_the_macs_are_met(mini_xception, share):
    wanted = share * count_macs(mini_xception)
    narrow = narrowed(mini_xception, wanted, NarrowConfig())
    assert count_macs(narrow.model) == pytest.approx(wanted, rel=0.02)
    widths = {name: kept / full for name, (kept, full) in narrow.counts.items()}
    smallest = min(full for _, full in narrow.counts.values())
    assert np.ptp(list(widths.values())) <= 1.5 / smallest  # as equal as whole channels can be
    assert len(widths) == 8
    assert narrow.width == pytest.approx(np.sqrt(share), abs=0.06)  # MACs go with the square of the width


def test_it_is_as_wide_as_what_prune_makes_by_scope_layer(mini_xception):
    for settings in ({"macs": 0.4}, {"macs": 0.4, "round_to": 8, "min_channels": 16, "exclude": ("block1_conv1",)}):
        pruned = prune_model(mini_xception, PruneConfig(scope="layer", **settings)).model
        also = {name: value for name, value in settings.items() if name != "macs"}
        narrow = narrowed(mini_xception, 0.4 * count_macs(mini_xception), NarrowConfig(**also))
        shapes = [[tuple(weight.shape) for weight in model.weights] for model in (pruned, narrow.model)]
        assert shapes[0] == shapes[1]


def test_a_target_out_of_reach_gives_the_smallest_network_and_all_of_it_the_whole(mini_xception):
    narrow = narrowed(mini_xception, 1.0, NarrowConfig(min_channels=8))
    assert {kept for kept, _ in narrow.counts.values()} == {8}
    whole = narrowed(mini_xception, float(count_macs(mini_xception)), NarrowConfig())
    assert whole.width == 1.0
    assert count_macs(whole.model) == count_macs(mini_xception)


def test_nested_models_are_narrowed_too(nested):
    narrow = narrowed(nested, 0.5 * count_macs(nested), NarrowConfig())
    assert [layer.name for layer in narrow.model.layers if layer.weights] == ["stem", "first", "second", "head"]
    assert count_macs(narrow.model) < count_macs(nested)


def test_a_network_of_which_no_channel_can_go_is_refused(keras):
    inputs = keras.Input((4,))
    with pytest.raises(PreconditionError, match="no channel of this model can be taken away"):
        narrowed(keras.Model(inputs, keras.layers.Dense(2)(inputs)), 4.0, NarrowConfig())
