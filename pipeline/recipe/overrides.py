"""Change one value of a recipe before it is checked (`--set stages.prune.ratio=0.3`)."""

from __future__ import annotations

import re

from pipeline.errors import RecipeError
from pipeline.recipe.errors import nearest
from pipeline.recipe.yaml_source import Path, YamlSource, plain_value
from pipeline.records.values import Json

STEP = re.compile(r"^(?P<name>[^\[\]]+)\[(?P<number>\d+)\]$")


def apply_override(source: YamlSource, override: str) -> None:
    """Change `source.data` in place; RecipeError if the path does not exist or matches more than one stage."""
    where = f"--set {override}"
    path_text, equals, value_text = override.partition("=")
    parts = path_text.split(".")
    if not equals or not all(parts):
        raise RecipeError("an override is KEY.PATH=VALUE", where=where, hint="such as --set stages.prune.ratio=0.3")
    value = plain_value(value_text)
    node: Json = source.data
    path: Path = ()
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if path[-1:] == ("stages",) and isinstance(node, list) and not part.isdigit():
            node, path = _stage(node, part, path, where)
            if last:
                raise RecipeError(
                    "this names a whole stage", where=where, hint=f"name a setting: {path_text}.SETTING=…"
                )
            continue
        key, path = _key(node, part, path, where)
        source.marks[path] = where
        if last:
            node[key] = value
        else:
            node = _descend(node, key)


def _key(node: Json, part: str, path: Path, where: str) -> tuple[str | int, Path]:
    if isinstance(node, list):
        if not part.isdigit() or int(part) >= len(node):
            raise RecipeError(
                f"{part!r} is not an element of this list of {len(node)}", where=where, hint="elements count from 0"
            )
        return int(part), (*path, int(part))
    return part, (*path, part)


def _descend(node: Json, key: str | int) -> Json:
    """Return the map or list under `key`, created if it is missing."""
    child = node.get(key) if isinstance(node, dict) else node[key]
    if not isinstance(child, dict | list):
        child = {}
        node[key] = child
    return child


def _name(entry: Json) -> str:
    if isinstance(entry, dict) and entry:
        return str(next(iter(entry)))
    return entry if isinstance(entry, str) else ""


def _stage(entries: list[Json], part: str, path: Path, where: str) -> tuple[dict[str, Json], Path]:
    """Return the settings of the stage called `part` (`prune`, or `prune[2]`), as a map that can be changed."""
    match = STEP.match(part)
    name, number = (match["name"], int(match["number"])) if match else (part, 0)
    names = [_name(entry) for entry in entries]
    positions = [index for index, other in enumerate(names) if other == name]
    if not positions:
        inside = [_name(entry) for entry in _repeated(entries)]
        hint = f"name stages.repeat.stages.{name}" if name in inside else nearest(name, [*names, *inside])
        what = f"the recipe has no stage {name!r}" + (" outside its repeat" if name in inside else "")
        raise RecipeError(what, where=where, hint=hint)
    if not match and len(positions) > 1:
        both = ", ".join(f"stages.{name}[{n}]" for n in range(1, len(positions) + 1))
        raise RecipeError(f"the recipe has {len(positions)} stages {name!r}", where=where, hint=f"name one of {both}")
    if match and not 1 <= number <= len(positions):
        raise RecipeError(f"the recipe has {len(positions)} stages {name!r}", where=where, hint="they count from 1")
    position = positions[number - 1 if match else 0]
    entry = entries[position]
    if isinstance(entry, str) or not isinstance(entry[name], dict):
        entries[position] = entry = {name: {}}
    return entry[name], (*path, position, name)


def _repeated(entries: list[Json]) -> list[Json]:
    """Return the entries inside repeats, if they are lists at all."""
    blocks = [entry["repeat"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("repeat"), dict)]
    return [entry for block in blocks if isinstance(block.get("stages"), list) for entry in block["stages"]]
