import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.prune import PruneConfig, prune_model


def sizes(report):
    return {group.name: (group.channels_before, group.channels_after) for group in report.groups}


def test_ratios_by_pattern_and_nothing_else(mini_xception):
    report = prune_model(mini_xception, PruneConfig(layers={"block1_conv1": 0.5, "block[34]_sepconv1": 0.25})).report
    changed = {name: counts for name, counts in sizes(report).items() if counts[0] != counts[1]}
    before = {name: counts[0] for name, counts in sizes(report).items()}
    assert changed == {
        "block1_conv1": (before["block1_conv1"], before["block1_conv1"] // 2),
        "block3_sepconv1": (before["block3_sepconv1"], before["block3_sepconv1"] * 3 // 4),
        "block4_sepconv1": (before["block4_sepconv1"], before["block4_sepconv1"] * 3 // 4),
    }
    assert report.wanted is None
    assert report.measure == "channels"


def test_thresholds_are_in_the_unit_of_the_criterion(mini_xception):
    kernel = mini_xception.get_layer("block1_conv1").kernel
    kernel.assign(np.ones(kernel.shape) * np.arange(1, kernel.shape[-1] + 1))
    report = prune_model(mini_xception, PruneConfig(criterion="l2", thresholds={"block1_conv1": 6.0})).report
    group = next(group for group in report.groups if group.name == "block1_conv1")
    assert group.removed == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("settings", "what", "hint"),
    [
        ({"layers": {"blok1_conv1": 0.5}}, 'no layer matches "blok1_conv1"', "block1_conv1"),
        ({"exclude": ("haed",)}, 'no layer matches "haed"', "head"),
        ({"layers": {"head": 0.5}}, '"head" names no channels that can go', "frozen by head: softmax"),
        ({"layers": {"block1_conv1_bn": 0.5}}, "names no channels", "makes no channels of its own"),
        (
            {"layers": {"block2_shortcut": 0.5, "block2_sepconv2": 0.25}},
            "say different things about",
            "layers that share channels have one ratio or threshold",
        ),
        ({"thresholds": {"block1_conv1": 1e9}}, "would empty block1_conv1", "its channels score from"),
        ({"thresholds": {"block1_conv1": 0.0}}, "no channel scores below", "they score: block1_conv1 from"),
        ({"layers": {"block1_conv1": 0.01}}, "nothing is taken away", "ask for more"),
    ],
)
def test_patterns_that_say_nothing_sensible(mini_xception, settings, what, hint):
    with pytest.raises(PreconditionError) as caught:
        prune_model(mini_xception, PruneConfig(**settings))
    assert what in caught.value.what
    assert hint in caught.value.hint
