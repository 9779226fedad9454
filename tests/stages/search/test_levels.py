from __future__ import annotations

import pytest

from pipeline.errors import RecipeError
from stages.search.levels import levels_of, share_left, yardstick_of


def test_three_levels_where_there_is_training(searched):
    levels = levels_of(searched())
    assert [(level.name, level.until) for level in levels.levels] == [
        ("fitted", "reconstruct"),
        ("trained", "finetune"),
        ("measured", None),
    ]
    assert levels.prune == "prune"
    assert levels.trains


def test_two_levels_without(searched):
    levels = levels_of(searched(finetune=""))
    assert [(level.name, level.until) for level in levels.levels] == [("fitted", "strip"), ("measured", None)]
    assert not levels.trains


def test_without_pruning_there_is_nothing_to_search(searched):
    with pytest.raises(RecipeError, match="prunes nothing"):
        levels_of(searched(prune="", reconstruct=""))


def test_the_yardstick_is_the_better_of_source_and_control():
    assert yardstick_of({"source.accuracy": 0.9, "control.accuracy": 0.8}) == 0.9
    assert yardstick_of({"source.accuracy": 0.9, "control.accuracy": 0.95}) == 0.95
    assert yardstick_of({}) is None


def test_what_is_left_is_measured_if_pruning_measured(searched):
    levels = levels_of(searched())
    assert share_left({"prune.macs": 30.0, "source.macs": 120.0}, levels) == 0.25
    assert share_left({"prune.macs": 30.0, "source.macs": 120.0, "prune.latency_ratio": 0.4}, levels) == 0.4
    assert share_left({}, levels) is None
