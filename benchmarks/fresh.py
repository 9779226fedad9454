"""Run parts of a measurement in separate processes: none inherits another's memory, caches or threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class PartFailed(Exception):
    """Raised if a part ended with an error; holds its last words."""


def in_fresh_process(program: str, *arguments: str) -> Any:
    """Return what `program` prints last with these arguments, read as JSON. Raises PartFailed."""
    command = [sys.executable, program, *arguments]
    environment = with_modules_of(ROOT)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise PartFailed(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout.splitlines()[-1])


def with_modules_of(folder: Path) -> dict[str, str]:
    """Return the environment for a Python that looks for modules in `folder` first."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
