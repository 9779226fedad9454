"""Load the user's own functions, named `module:function`: a module is one file next to the recipe, and nothing else.

The code that runs is the code that was hashed: the module is compiled from the very bytes whose digest is in the key.
It runs with the user's rights, as the recipe requests.
"""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import RecipeError, StageError, reason_of
from pipeline.records.keys import digest_of, digest_of_bytes

FUNCTION = r"[A-Za-z_][A-Za-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*"  # how one is named


def code_input(reference: str) -> str:
    """Return the name of a module's digest among the inputs of an action."""
    return f"module {reference.partition(':')[0]}"


def code_digest(folder: Path, reference: str) -> str:
    """Return `sha256:…` of the module that holds a function; RecipeError if there is no such file."""
    return digest_of_bytes(_source(folder, reference))


def load_function(folder: Path, reference: str) -> tuple[str, Callable[..., Any]]:
    """Return the module's digest and the function; RecipeError if it has none of that name, StageError if it fails.

    Modules of the same folder can be imported from it at its top; their content is in no key.
    """
    source, (name, _, attribute) = _source(folder, reference), reference.partition(":")
    digest, path = digest_of_bytes(source), folder.absolute() / f"{name}.py"
    # The user's module may be called as an installed one, and after an edit the old one must not be found.
    unique = f"_secateur_{name}_{digest_of('module', [str(path), digest])[7:23]}"
    if unique not in sys.modules:
        module = ModuleType(unique)
        module.__file__ = str(path)
        # Before it runs: with postponed annotations `dataclass` fails where it does not find its module here.
        sys.modules[unique] = module
        # Last: a file beside the recipe must not stand in for a module of Python's or of a package.
        added = str(folder) not in sys.path
        if added:
            sys.path.append(str(folder))
        try:
            exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - the recipe asks for it
        except (Exception, SystemExit) as error:
            # The next call would find half a module.
            del sys.modules[unique]
            raise StageError(f"{name}.py failed: {told(error)}", where=str(path)) from error
        finally:
            if added:
                sys.path.remove(str(folder))
    function = getattr(sys.modules[unique], attribute, None)
    if not callable(function):
        raise RecipeError(f"{name}.py has no function {attribute}", where=str(path))
    return digest, function


def told(error: BaseException) -> str:
    """Format what the user's code raised, and where, in one line: `ValueError: no such file (mine.py:12, in load)`."""
    message = f"{type(error).__name__}: {reason_of(error)}" if str(error).strip() else type(error).__name__
    position = _place_of(error)
    return f"{message} ({position})" if position else message


def _place_of(error: BaseException) -> str | None:
    """Return the innermost line that is neither ours nor a library's; None if there is none."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_the_users(frame.filename)]
    if not frames:
        return None
    function = f", in {frames[-1].name}" if frames[-1].name != "<module>" else ""
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}{function}"


def _is_the_users(file: str) -> bool:
    path = Path(file)
    library = {"site-packages", "dist-packages"} & set(path.parts)
    return not file.startswith("<") and not library and not any(map(path.is_relative_to, _not_the_users()))


@cache
def _not_the_users() -> tuple[Path, ...]:
    """Return the folders of Python's own modules, and of ours."""
    root = Path(__file__).parents[2]
    return Path(sysconfig.get_path("stdlib")), root / "pipeline", root / "stages"


def _source(folder: Path, reference: str) -> bytes:
    path = folder / f"{reference.partition(':')[0]}.py"
    try:
        return path.read_bytes()
    except OSError as error:
        hint = "module:function names a file next to the recipe"
        raise RecipeError(f"{reference}: {path} can't be read", where=str(path), hint=hint) from error
