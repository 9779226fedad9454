"""Make candidates: recipes that differ from one base recipe in some settings, and files of their own for them."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.errors import SecateurError
from pipeline.planning.chain import CodeOf
from pipeline.planning.wiring import build_chain
from pipeline.recipe.model_files import FILE, MODULE, WEIGHTS, find_files
from pipeline.recipe.recipe import STUDY, Recipe
from pipeline.records.values import Json
from stages.devices.target import find_target

WIDTH = 100


@dataclass(frozen=True)
class Candidate:
    """Hold what one recipe of a study is: the file of its base, `--set` of the user, and its own settings by path."""

    base: Path
    settings: Mapping[str, Json]
    overrides: tuple[str, ...] = ()

    def recipe(self) -> Recipe:
        """Return the recipe; RecipeError if a setting names nothing, or is not allowed."""
        own = tuple(f"{key}={json.dumps(value)}" for key, value in self.settings.items())
        return Recipe.load(self.base, (*self.overrides, *own))

    def label(self) -> str:
        """Return its settings in one line: `prune.ratio 0.3, seed 1`."""
        return ", ".join(f"{short(key)} {shown(value)}" for key, value in self.settings.items()) or self.base.name

    def write(self, target: Path) -> None:
        """Write the recipe to a file that runs wherever it is: paths in it start from its own folder.

        The user's modules and targets next to the base recipe, which a recipe can only name, are copied beside it.

        Raises:
            SecateurError: the file can't be written.
        """
        recipe = self.recipe()
        document = {key: value for key, value in recipe.source.data.items() if key not in STUDY}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for holder, key in _paths(document, recipe):
                holder[key] = _seen_from(target.parent, recipe.folder, str(holder[key]))
            for file in _beside(recipe) if target.parent.resolve() != recipe.folder else ():
                copy = target.parent / file.absolute().relative_to(recipe.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            target.write_text("\n".join([*self._comment(), _yaml(document)]), encoding="utf-8")
        except OSError as error:
            raise SecateurError(f"the recipe can't be written: {error}", where=str(target)) from error

    def _comment(self) -> Iterator[str]:
        yield f"# {self.base.name}" + (" with these settings:" if self.settings else "")
        yield from (f"#   {key}: {shown(value)}" for key, value in self.settings.items())
        yield from (f"#   --set {override}" for override in self.overrides)


def short(key: str) -> str:
    """Return a path of a setting as people say it: `prune.ratio` for `stages.prune.ratio`."""
    return key.removeprefix("stages.")


def shown(value: Json) -> str:
    """Return a value in one line, text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _paths(document: dict[str, Any], recipe: Recipe) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each path in a recipe's plain data, as its map and its key."""
    model, data = document["model"], recipe.data
    if isinstance(model, str):
        yield document, "model"
    else:
        roles = find_files(recipe)
        yield from ((model, key) for key, role in (("path", FILE), ("weights", WEIGHTS)) if role in roles)
    if data is not None:
        settings = dict(data.settings)
        yield from ((document["data"], key) for key in document["data"] if isinstance(settings.get(key), Path))


def _seen_from(folder: Path, base: Path, path: str) -> str:
    given = Path(path).expanduser()
    return str(given) if given.is_absolute() else Path(os.path.relpath(base / given, folder)).as_posix()


def _beside(recipe: Recipe) -> list[Path]:
    """Return the files in a recipe's folder that it names and does not locate: the user's modules, and targets."""
    nodes = build_chain(recipe).nodes
    named = [origin.reference for node in nodes for origin in node.inputs.values() if isinstance(origin, CodeOf)]
    if recipe.data is not None and recipe.data.source == "python":
        named.append(dict(recipe.data.settings)["function"])
    files = {recipe.folder / f"{reference.partition(':')[0]}.py" for reference in named}
    files |= {path for role, path in find_files(recipe).items() if role.startswith(MODULE)}
    files |= {find_target(name, recipe.folder).file for node in nodes for name in node.targets}
    return sorted(path for path in files if path.absolute().is_relative_to(recipe.folder))


def _yaml(document: dict[str, Any]) -> str:
    yaml, text = YAML(pure=True), io.StringIO()
    yaml.default_flow_style = None  # maps and lists without others inside are written in one line
    yaml.width = WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(document, text)
    return text.getvalue()
