"""What a recipe may say under quantize."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stages.quantize import QuantizeConfig


def test_schemes_are_a_list_in_the_recipe_and_io_has_a_default() -> None:
    config = QuantizeConfig.model_validate_json('{"schemes": ["float32", "int8"]}')
    assert config.schemes == ("float32", "int8")
    assert config.io == "float32"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "Field required"),
        ('{"schemes": []}', "at least 1 item"),
        ('{"schemes": ["int8", "int8"]}', "named once"),
        ('{"schemes": ["int4"]}', "'float32', 'float16', 'dynamic' or 'int8'"),
        ('{"schemes": ["int8"], "io": "uint8"}', "'float32' or 'int8'"),
        ('{"schemes": ["int8"], "bits": 8}', "Extra inputs"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        QuantizeConfig.model_validate_json(text)
