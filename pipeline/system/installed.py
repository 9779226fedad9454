"""Read what is installed: versions of distributions, which enter keys, and entry points."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata
from typing import Any

FIELD = "Version:"
OURSELVES = "secateur"
NAME = re.compile(r"[A-Za-z0-9._-]+")


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


@cache
def optional_requirements() -> dict[str, str]:
    """Return what our extras require, by the package's name: `{"openvino": "openvino==2026.4.1"}`."""
    try:
        required = metadata.requires(OURSELVES) or []
    except metadata.PackageNotFoundError:
        return {}
    optional = (requirement.partition(";")[0].strip() for requirement in required if "extra ==" in requirement)
    return {found[0]: requirement for requirement in optional if (found := NAME.match(requirement))}


@cache
def _every_entry_point() -> Any:  # Python 3.11 has another class than 3.12, with the same `select`
    return metadata.entry_points()


def points_of(group: str) -> metadata.EntryPoints:
    """Return the entry points of a group, read once for all groups: each reading opens every installed distribution."""
    points: metadata.EntryPoints = _every_entry_point().select(group=group)
    return points
