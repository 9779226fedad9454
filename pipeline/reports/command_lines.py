"""Format commands so that, copied into a shell in this folder and this environment, they work.

All commands in messages are made here, so that nothing in them is quoted twice or not at all.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from pipeline.store import STORE_VARIABLE, default_store
from pipeline.system.installed import optional_requirements

SURGEON = ("--no-deps", "kerassurgeon==0.2.0", "importlib-metadata")  # its own pins cannot be resolved


def secateur(*words: object, store: Path | None = None) -> str:
    """Format `secateur show 3f2a`, quoted for a shell, with `--store` if the command would use another store."""
    option = () if store is None or _implied_store() == store.expanduser().absolute() else ("--store", store)
    return shlex.join(["secateur", *map(str, (*words, *option))])


def stands_for() -> str | None:
    """Return what to type instead if `secateur` is not on the PATH, as when the environment is not activated."""
    if shutil.which("secateur"):
        return None
    script = Path(sys.executable).with_name("secateur")
    return shlex.quote(_shown(script)) if script.is_file() else shlex.join([sys.executable, "-m", "pipeline"])


def note_of(text: str) -> str | None:
    """Return a line to print below a text with one of our commands, if it can't be typed literally."""
    short = stands_for() if "secateur " in text else None
    return f"(`secateur` stands for {short})" if short else None


def install(*words: str) -> str:
    """Return the command that installs packages into this environment, which may contain no pip (`make setup`)."""
    # Not `find_spec`, which also asks setuptools' hook: that warns if distutils has been imported.
    own = PathFinder.find_spec("pip") is not None
    inside = [sys.executable, "-m", "pip"] if own else [base_python(), "-m", "pip", "--python", sys.executable]
    return shlex.join([*inside, "install", *words])


def install_optional(package: str) -> str:
    """Return the command that installs a package that one of our extras names, as it says, or any other one.

    A package of exactly one version is installed alone: what it asks for beyond the lock was looked at, and is not
    needed (openvino would bring a reporter of its use).
    """
    requirement = optional_requirements().get(package, package)
    return install(*(("--no-deps",) if "==" in requirement else ()), requirement)


def install_ourselves() -> str:
    """Return the command that repairs secateur itself: from its checkout, else from wherever it came."""
    root = checkout()
    return install("--no-deps", "--no-build-isolation", "--editable", str(root)) if root else "install secateur again"


def install_locked() -> str:
    """Return the command that installs the locked versions; only from a checkout, which has the lock file."""
    root = checkout()
    lock = str(root / "requirements.lock") if root else "requirements.lock"
    return install("--no-deps", "--require-hashes", "-r", lock)


def checkout() -> Path | None:
    """Return the folder that this code runs from, if it is a checkout of the project and not an installed package."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "requirements.lock").is_file() else None


def _implied_store() -> Path:
    return Path(os.environ.get(STORE_VARIABLE) or default_store()).expanduser().absolute()


def base_python() -> str:
    """Return the interpreter that this environment was made with."""
    names = ("bin/python3", "python.exe")
    return next((str(path) for name in names if (path := Path(sys.base_prefix, name)).is_file()), "python3")


def _shown(path: Path) -> str:
    """Return the path relative to this folder, if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
