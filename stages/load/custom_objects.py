"""Import layers and functions of the user's own, by `module:Name`, for either Keras."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import ModelError
from pipeline.recipe.user_code import told
from pipeline.records.keys import digest_of_bytes, digest_of_file

# By name: the module that was imported, and the digest of its source at the first request here. One that is imported
# again is another object.
_sources: dict[str, tuple[object, str]] = {}

HINT = "custom_objects are `module:Name`; modules are looked for where Python does, then in the recipe's folder"


def import_custom_objects(names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the object of each name, by the part after the colon; twice if it is given for both Keras.

    Raises:
        ModelError: a module can't be imported, or has no such name.
    """
    objects: dict[str, list[Any]] = {}
    for full in names:
        module, _, name = full.partition(":")
        try:
            objects.setdefault(name, []).append(getattr(_imported(module), name))
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            what = f"the custom object can't be imported: {told(error)}"
            raise ModelError(what, where=full, hint=HINT) from error
    return objects


def _imported(name: str) -> ModuleType:
    """Import the module from its source: Python's bytecode cache misses an edit in the same second."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        module = import_module(name)
        if _digest_at_import(name) is None:
            _sources[name] = module, digest_of_file(Path(str(module.__file__)))
        return module
    path = spec.loader.get_filename(name)
    source = spec.loader.get_data(path)
    # Before it runs, as Python's own import does: modules may import each other in a circle.
    module = sys.modules[name] = module_from_spec(spec)
    try:
        exec(spec.loader.source_to_code(source, path), module.__dict__)  # noqa: S102 - as any import does
    except BaseException:
        del sys.modules[name]
        raise
    module = sys.modules.get(name, module)  # one may put another object in its place, which imports then return
    _sources[name] = module, digest_of_bytes(source)
    return module


def _digest_at_import(name: str) -> str | None:
    """Return the digest of a module's source when it was first requested here; None if it was imported again since."""
    module, digest = _sources.get(name, (None, None))
    return digest if sys.modules.get(name, module) is module else None


def of_keras(objects: dict[str, list[Any]], keras: ModuleType) -> dict[str, Any]:
    """Return those usable with one Keras: its own layers, and all that are not layers at all."""
    return {
        name: kind
        for name, kinds in objects.items()
        for kind in kinds
        if not isinstance(kind, type) or issubclass(kind, keras.layers.Layer) or not _is_layer(kind)
    }


def _is_layer(kind: type) -> bool:
    return any(parent.__name__ == "Layer" and "keras" in parent.__module__ for parent in kind.__mro__)


def check_source(name: str, verified: Path) -> None:
    """Raise ModelError unless the module of this name was imported from the source that the key was made with."""
    if _digest_at_import(name) != digest_of_file(verified):
        what = f"the source of {name} changed after it was imported"
        raise ModelError(what, where=name, hint="run again, in a new process")
