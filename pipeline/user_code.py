"""The user's own functions, named `module:function`: a module is one file beside the recipe, and nothing else.

What is run is what was hashed: the module is compiled from the very bytes whose digest is in the key. This runs the
user's code with the user's rights, as the recipe asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import RecipeError, StageError
from pipeline.keys import digest_of, digest_of_bytes


def code_input(reference: str) -> str:
    """The name under which a module's digest stands among the inputs of an action."""
    return f"module {reference.partition(':')[0]}"


def code_digest(folder: Path, reference: str) -> str:
    """`sha256:…` of the module that holds a function; RecipeError where there is no such file."""
    return digest_of_bytes(_source(folder, reference))


def load_function(folder: Path, reference: str) -> tuple[str, Callable[..., Any]]:
    """The digest of the module, and the function; RecipeError where it has none of that name, StageError if it fails.

    Modules of the same folder can be imported from it at its top; their content is in no key.
    """
    source, (name, _, attribute) = _source(folder, reference), reference.partition(":")
    digest, path = digest_of_bytes(source), folder.absolute() / f"{name}.py"
    unique = f"_secateur_{name}_{digest_of('module', [str(path), digest])[7:23]}"
    if unique not in sys.modules:
        module = ModuleType(unique)
        module.__file__ = str(path)
        sys.modules[unique] = module
        sys.path.append(str(folder))
        try:
            exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - the recipe asks for it
        except Exception as error:
            del sys.modules[unique]
            raise StageError(f"{name}.py failed: {type(error).__name__}: {error}", where=str(path)) from error
        finally:
            sys.path.remove(str(folder))
    function = getattr(sys.modules[unique], attribute, None)
    if not callable(function):
        raise RecipeError(f"{name}.py has no function {attribute}", where=str(path))
    return digest, function


def _source(folder: Path, reference: str) -> bytes:
    path = folder / f"{reference.partition(':')[0]}.py"
    try:
        return path.read_bytes()
    except OSError as error:
        hint = "module:function names a file beside the recipe"
        raise RecipeError(f"{reference}: {path} can't be read", where=str(path), hint=hint) from error
