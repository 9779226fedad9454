"""Parts of a measurement in processes of their own: none inherits another's memory, caches or threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class PartFailed(Exception):
    """A part ended with an error; its last words."""


def in_fresh_process(program: str, *arguments: str) -> Any:
    """What `program` prints last with these arguments, read as JSON. Raises PartFailed."""
    command = [sys.executable, program, *arguments]
    environment = with_modules_of(ROOT)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise PartFailed(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout.splitlines()[-1])


def with_modules_of(folder: Path) -> dict[str, str]:
    """The environment for a Python that looks for modules in `folder` first."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
