"""Find which distributions are installed: their versions enter keys."""

from __future__ import annotations

from functools import cache
from importlib import metadata

FIELD = "Version:"


@cache
def package_version(name: str) -> str:
    """Return the installed version of a distribution, or "absent"; `tensorflow` may be installed as tensorflow-cpu."""
    for candidate in (name, f"{name}-cpu"):
        try:
            text = metadata.distribution(candidate).read_text("METADATA") or ""
        except metadata.PackageNotFoundError:
            continue
        # Read only the header's first lines: `metadata.version` parses the whole file as a mail message, READMEs
        # included.
        return next(line[len(FIELD) :].strip() for line in text.splitlines() if line.startswith(FIELD))
    return "absent"
