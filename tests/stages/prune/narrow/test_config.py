from stages.prune.config import MeasureOn, PruneConfig
from stages.prune.narrow.config import NarrowConfig


def test_counts_are_rounded_as_the_pruning_rounds_them():
    pruning = PruneConfig(macs=0.5, round_to=8, min_channels=4, exclude=("head*",))
    assert NarrowConfig.beside(pruning) == NarrowConfig(round_to=8, min_channels=4, exclude=("head*",))


def test_steps_of_a_device_are_no_steps_of_macs():
    assert NarrowConfig.beside(PruneConfig(round_to="auto", measure_on=MeasureOn(target="cpu"))).round_to == 1
