"""Implement `secateur version`."""

from __future__ import annotations

import json
import platform

from pipeline.cli.options import JsonOption
from pipeline.system.installed import package_version


def command(as_json: JsonOption = False) -> None:
    version = package_version("secateur")
    if as_json:
        print(json.dumps({"schema_version": 1, "secateur": version, "python": platform.python_version()}))
    else:
        print(f"secateur {version}")
