"""Commands as they are printed: copied into a shell, in this folder and this environment, they do what they say.

All that messages tell the user to type is made here, so that nothing of it is quoted twice or not at all.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from pipeline.store import STORE_VARIABLE, default_store

SURGEON = ("--no-deps", "kerassurgeon==0.2.0", "importlib-metadata")  # its own pins forbid any resolve


def secateur(*words: object, store: Path | None = None) -> str:
    """`secateur show 3f2a`, quoted for a shell; `--store` where the command would look into another one."""
    option = () if store is None or _implied_store() == store.expanduser().absolute() else ("--store", store)
    return shlex.join(["secateur", *map(str, (*words, *option))])


def stands_for() -> str | None:
    """Where there is no `secateur` on the PATH, as with an environment that is not activated: what to type instead."""
    if shutil.which("secateur"):
        return None
    script = Path(sys.executable).with_name("secateur")
    return shlex.quote(_shown(script)) if script.is_file() else shlex.join([sys.executable, "-m", "pipeline"])


def note_of(text: str) -> str | None:
    """A line to print below a text that has a command of ours, where it can't be typed as it stands."""
    short = stands_for() if "secateur " in text else None
    return f"(`secateur` stands for {short})" if short else None


def install(*words: str) -> str:
    """The command that installs packages into this environment, which may have no pip inside (`make setup`)."""
    # Not `find_spec`, which asks setuptools' hook as well: that warns where distutils has been imported.
    own = PathFinder.find_spec("pip") is not None
    inside = [sys.executable, "-m", "pip"] if own else [_base(), "-m", "pip", "--python", sys.executable]
    return shlex.join([*inside, "install", *words])


def install_ourselves() -> str:
    """The command that puts secateur itself right: from its checkout, else from wherever it came."""
    root = checkout()
    return install("--no-deps", "--no-build-isolation", "--editable", str(root)) if root else "install secateur again"


def install_locked() -> str:
    """The command that installs what the lock names; from a checkout, for nothing else has the file."""
    root = checkout()
    lock = str(root / "requirements.lock") if root else "requirements.lock"
    return install("--no-deps", "--require-hashes", "-r", lock)


def checkout() -> Path | None:
    """The folder that this code runs from, where it is a checkout of the project and no installed package."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "requirements.lock").is_file() else None


def _implied_store() -> Path:
    return Path(os.environ.get(STORE_VARIABLE) or default_store()).expanduser().absolute()


def _base() -> str:
    """The interpreter that this environment was made with."""
    names = ("bin/python3", "python.exe")
    return next((str(path) for name in names if (path := Path(sys.base_prefix, name)).is_file()), "python3")


def _shown(path: Path) -> str:
    """From this folder, if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
