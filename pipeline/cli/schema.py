"""Print the JSON Schema of recipes (`secateur schema`) for editors, with the stages' settings."""

from __future__ import annotations

import json
from typing import Any

from pipeline.contracts.discovery import stages
from pipeline.recipe.recipe import RecipeFields
from pipeline.recipe.steps import REPEAT, Repeat, names_of_entries


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a recipe as YAML or JSON."""
    schema = RecipeFields.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    entries: list[dict[str, Any]] = []
    names = names_of_entries()
    for name in names:
        kind = Repeat if name == REPEAT else stages()[name].config
        settings = kind.model_json_schema(by_alias=True)
        # Each schema refers to its definitions as `#/$defs/…`, so they have to stand at the root of the whole.
        definitions |= settings.pop("$defs", {})
        definitions[f"stage.{name}"] = settings
        step = {"$ref": f"#/$defs/stage.{name}"}
        entries.append(
            {"type": "object", "properties": {name: step}, "required": [name], "additionalProperties": False}
        )
    entry: dict[str, Any] = {"anyOf": [{"enum": [name for name in names if name != REPEAT]}, *entries]}
    for part in (schema, definitions[f"stage.{REPEAT}"]):
        part["properties"]["stages"]["items"] = entry
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "schema_version": 1,
        **schema,
        "title": "secateur recipe",
    }


def command() -> None:
    print(json.dumps(recipe_schema(), ensure_ascii=False, indent=1))
