"""Translate pydantic's findings for a recipe's author: which key, where, what is allowed, the nearest name."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from types import UnionType
from typing import TYPE_CHECKING, Annotated, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from pipeline.errors import RecipeError
from pipeline.recipe.yaml_source import Path, YamlSource, dotted
from pipeline.records.values import Json, Value

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

V = TypeVar("V", bound=Value)
SHOWN = 12  # names in a hint


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint: the nearest of the known names, or all of them; the first of them if they are many."""
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "the nearest is " + " or ".join(close) if len(close) < 3 else "the nearest are " + ", ".join(close)
    more = len(known) - SHOWN
    return "known: " + ", ".join(known[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def validate(kind: type[V], data: Json, path: Path, source: YamlSource) -> V:
    """Validate `data`, which is at `path` of the recipe, as `kind`; RecipeError if it isn't one."""
    try:
        # As JSON: strict models take lists for tuples, and text for paths, only there (`Value`).
        return kind.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise explain(error, kind, data, path, source) from error


def explain(error: ValidationError, kind: type[Value], data: Json, prefix: Path, source: YamlSource) -> RecipeError:
    """Turn the first finding into a RecipeError; its hint says how many more there are."""
    findings = error.errors(include_url=False)
    # A union reports once for each member: the one that got furthest into the value is the most specific.
    first = max(findings, key=lambda finding: len(finding["loc"]))
    if len({len(finding["loc"]) for finding in findings}) == 1:
        # A validator is asked only once a member's own fields are right, so it is the most specific too.
        first = next((finding for finding in findings if finding["type"] == "value_error"), findings[0])
    inner = _path(first["loc"], data, missing=first["type"] == "missing")
    path = prefix + inner
    what, hint = _words(first, kind, inner)
    others = len({finding["loc"] for finding in findings}) - 1
    if others and all(f["loc"][0] != first["loc"][0] for f in findings if f is not first):
        hint = f"{hint}; {others} more after this one" if hint else f"{others} more after this one"
    short = dotted(path[2:] if path[:1] == ("stages",) and len(path) > 2 else path)
    return RecipeError(f"{short}: {what}" if short else what, where=source.where(path), hint=hint)


def _path(location: Path, data: Json, *, missing: bool) -> Path:
    """Return pydantic's location without the names of a union's members: only the parts that exist in the data.

    The last part of a missing key does not exist yet, and stays.
    """
    path: list[str | int] = []
    for index, part in enumerate(location):
        if isinstance(data, dict) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif not (missing and isinstance(data, dict) and index == len(location) - 1):
            continue
        path.append(part)
    return tuple(path)


def _words(finding: ErrorDetails, kind: type[Value], path: Path) -> tuple[str, str | None]:
    value, context = finding["input"], finding.get("ctx", {})
    match finding["type"]:
        case "extra_forbidden":
            return "unknown key", nearest(str(path[-1]), known_keys(kind, path[:-1]))
        case "missing":
            return "is missing", "a required key"
        case "value_error":
            return str(context.get("error", finding["msg"])), None
        case "literal_error":
            return f"{_shown(value)} is not allowed", _allowed(value, context["expected"])
        case "tuple_type" | "list_type":
            alone = isinstance(value, str | int | float)
            return f"{_shown(value)}: a list is needed", f"write [{_shown(value)}]" if alone else None
        case "dict_type" | "model_type":
            return f"{_shown(value)}: a map of settings is needed", "such as {key: value}"
        case "string_type" | "path_type":
            quoted = isinstance(value, int | float)
            return f"{_shown(value)}: text is needed", f'write "{_shown(value)}"' if quoted else None
        case "too_short" if not value:
            return "is empty", f"{context['min_length']} or more are needed"
        case _:
            return f"{_shown(value)}: {finding['msg'][0].lower()}{finding['msg'][1:]}", None


def _allowed(value: object, expected: str) -> str:
    """Return what pydantic expects (`'a', 'b' or 'c'`), the nearest first if one is near."""
    close = get_close_matches(str(value), re.findall(r"'([^']*)'", expected), n=1, cutoff=0.5)
    return f"the nearest is {close[0]}; allowed: {expected}" if close else f"allowed: {expected}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def known_keys(kind: type[Value], path: Path) -> list[str]:
    """Return the keys that the model at `path` inside `kind` knows, by the names that recipes use."""
    current: list[type[Value]] = [kind]
    for part in path:
        if isinstance(part, int):
            continue
        fields = [
            field for model in current for name, field in model.recipe_fields().items() if part in (name, field.alias)
        ]
        current = [model for field in fields for model in _models(field.annotation)] or current
    return [field.alias or name for model in current for name, field in model.recipe_fields().items()]


def _models(annotation: object) -> list[type[Value]]:
    if isinstance(annotation, type) and issubclass(annotation, Value):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, dict):
        return [model for argument in get_args(annotation) for model in _models(argument)]
    return []
