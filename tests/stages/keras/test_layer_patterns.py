import pytest

from pipeline.errors import PreconditionError
from stages.keras.layer_patterns import matching

NAMES = ("stem", "block1_conv", "block2_conv", "head")


def test_a_pattern_takes_the_names_that_it_matches_in_their_order():
    assert matching("block*", NAMES, "prune.exclude") == ["block1_conv", "block2_conv"]
    assert matching("head", NAMES, "prune.exclude") == ["head"]


def test_one_that_matches_nothing_is_an_error_with_the_nearest_names():
    with pytest.raises(PreconditionError, match='no layer matches "haed"') as caught:
        matching("haed", NAMES, "prune.exclude")
    assert caught.value.where == "prune.exclude"
    assert "head" in caught.value.hint
    with pytest.raises(PreconditionError) as caught:
        matching("zzz*", NAMES, "prune.exclude")
    assert "secateur inspect" in caught.value.hint
