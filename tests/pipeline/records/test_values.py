import pytest
from pydantic import ValidationError

from pipeline.data.spec import DataSpec
from pipeline.records.values import Value


class Size(Value):
    width: int
    share: float = 0.5


def test_values_are_frozen_strict_and_finite():
    size = Size(width=3)
    with pytest.raises(ValidationError, match="frozen"):
        size.width = 4
    for wrong in ({"width": "3"}, {"width": 3, "height": 2}, {"width": 3, "share": float("inf")}):
        with pytest.raises(ValidationError):
            Size(**wrong)


def test_what_a_recipe_can_set_are_the_fields_and_where_there_are_more_those_too():
    assert Size.recipe_fields().keys() == {"width", "share"}
    assert DataSpec.recipe_fields().keys() >= {"source", "task", "path", "features", "function"}
