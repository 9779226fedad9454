"""Find the files that a recipe's `model:` names, each by its role, and what else enters the key of `load`.

Roles are `file`, `weights`, and `module NAME` for each module that custom objects come from. A file enters the key by
its content under its role, a folder by the names and contents of all files in it; paths never do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError, RecipeError
from pipeline.recipe.model_spec import Application, Model, ModelFiles
from pipeline.recipe.recipe import Recipe
from pipeline.records.keys import digest_of, digest_of_file

FILE, WEIGHTS, MODULE = "file", "weights", "module "


def roles(model: Model) -> tuple[str, ...]:
    """Return the roles of all files that a model needs."""
    if isinstance(model, Path):
        return (FILE,)
    weights = (WEIGHTS,) if isinstance(model.weights, Path) else ()
    if isinstance(model, Application):
        return weights
    modules = sorted({name.partition(":")[0] for name in model.custom_objects})
    return (FILE, *weights, *(MODULE + module for module in modules))


def load_settings(model: Model) -> dict[str, Any]:
    """Return the settings of `load` that a recipe's model asks for; none of them holds a path."""
    if isinstance(model, Path):
        return {}
    if isinstance(model, Application):
        weights = None if isinstance(model.weights, Path) else model.weights
        built = model.model_copy(update={"weights": weights, "sizes": None})
        return {"application": built, "preprocess": model.preprocess, "sizes": model.sizes}
    settings = ("custom_objects", "preprocess", "trust", "sizes")
    return {name: getattr(model, name) for name in settings}


def find_files(recipe: Recipe) -> dict[str, Path]:
    """Return the path of each role; RecipeError if one does not exist."""
    model, paths = recipe.model, dict[str, Path]()
    for role in roles(model):
        if role.startswith(MODULE):
            paths[role] = _module_file(recipe, role.removeprefix(MODULE))
            continue
        key: tuple[str, ...]
        if isinstance(model, Path):
            named, key = model, ()
        elif isinstance(model, ModelFiles) and role == FILE:
            named, key = model.path, ("path",)
        else:
            named, key = Path(str(model.weights)), ("weights",)
        path = recipe.folder / named.expanduser()
        if not path.exists():
            where, hint = recipe.source.where(("model", *key)), "the path is taken from the recipe's folder"
            raise RecipeError(f"{'.'.join(('model', *key))}: {path} is not there", where=where, hint=hint)
        paths[role] = path
    return paths


def _module_file(recipe: Recipe, name: str) -> Path:
    """Find a module's source as an import would, then next to the recipe; nothing is imported."""
    folders: list[str] | None = [*sys.path, str(recipe.folder)]
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        # Part by part, because `importlib.util.find_spec` imports the packages around a module.
        spec = PathFinder.find_spec(".".join(parts[:end]), folders)
        if spec is None:
            break
        folders = list(spec.submodule_search_locations or ())
    if spec is None or not spec.origin or not spec.has_location:
        hint = "modules are looked for where Python does, then in the recipe's folder"
        raise RecipeError(
            f"model.custom_objects: there is no module {name}",
            where=recipe.source.where(("model", "custom_objects")),
            hint=hint,
        )
    return Path(spec.origin)


def make_importable(recipe: Recipe) -> None:
    """Make custom objects importable from the recipe's folder; what Python finds elsewhere takes precedence."""
    if isinstance(recipe.model, ModelFiles) and recipe.model.custom_objects and str(recipe.folder) not in sys.path:
        sys.path.append(str(recipe.folder))


def digest_of_model(path: Path, digest_file: Callable[[Path], str] = digest_of_file) -> str:
    """Return a file's digest, or a folder's: over the names and digests of all files in it.

    Raises:
        ModelError: the folder holds links or other things that are neither files nor folders.
    """
    if not path.is_dir():
        return digest_file(path)
    return digest_of("folder", {file.relative_to(path).as_posix(): digest_file(file) for file in files_in(path)})


def files_in(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and its subfolders, in the same order everywhere."""
    for entry in sorted(folder.rglob("*"), key=lambda entry: entry.relative_to(folder).as_posix()):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            hint = "copy the folder with its links followed: cp -rL"
            raise ModelError("the model's folder holds a link or a special file", where=str(entry), hint=hint)
        if entry.is_file():
            yield entry
