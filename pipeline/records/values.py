"""Define the base of every recorded value: frozen, strict, and without unknown keys or infinities.

Values are validated in pydantic's JSON mode wherever they come from a file, so that lists become tuples and strings
become paths, while a number in quotes stays an error.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

Json: TypeAlias = Any  # a value of a JSON document, or of plain YAML: None, bool, number, text, list, or dict by text


class Value(BaseModel):
    """Validate strictly and freeze: the base of all records."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def recipe_fields(cls) -> dict[str, FieldInfo]:
        """Return the fields that a recipe can set here."""
        return dict(cls.model_fields)
