"""Pack the device runner into the one file that goes to a board: its core, and what opens the files of each format.

The file is an archive that Python runs like a script. Equal sources give equal bytes, so that a board that has the file
does not get it again. This module needs the standard library alone where it is run as a script, which packs openers
that are named: that is how the runner's image is built.

    python runner_file.py TARGET OPENER…
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

CORE = Path(__file__).with_name("runner.py")
_folders: list[TemporaryDirectory[str]] = []  # kept while this process lives


@cache
def runner_file() -> Path:
    """The packed runner, with the openers of all installed formats; it is there while this process lives."""
    _folders.append(TemporaryDirectory(prefix="secateur-"))
    path = Path(_folders[-1].name) / "runner.py"
    path.write_bytes(packed(opener_sources()))
    return path


def opener_sources() -> dict[str, str]:
    """The source of each installed format's opener, by the format's name."""
    from stages.formats.format import OnDevice
    from stages.formats.registry import formats

    found = {}
    for name, one in formats().items():
        spec = find_spec(one.opener) if isinstance(one, OnDevice) else None
        if spec is not None and spec.origin is not None:
            found[name] = Path(spec.origin).read_text(encoding="utf-8")
    return found


def packed(openers: Mapping[str, str]) -> bytes:
    """The archive: the core as its main module, and a package of the openers' sources."""
    files = {"__main__.py": CORE.read_text(encoding="utf-8"), "openers/__init__.py": f"NAMES = {tuple(openers)!r}\n"}
    files |= {f"openers/{name}.py": source for name, source in openers.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


if __name__ == "__main__":
    target, *named = map(Path, sys.argv[1:])
    target.write_bytes(packed({path.stem: path.read_text(encoding="utf-8") for path in named}))
