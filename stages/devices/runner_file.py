"""Pack the device runner into the one file that goes to a board: its core, and the opener of each format.

The file is an archive that Python runs like a script. Equal sources give equal bytes, so that a board that has the file
does not get it again. Run as a script, this module needs only the standard library and packs the named openers: that is
how the runner's image is built.

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
_folders: list[TemporaryDirectory[str]] = []  # kept until this process ends


@cache
def runner_file() -> Path:
    """Return the packed runner, with the openers of all installed formats; it exists until this process ends."""
    _folders.append(TemporaryDirectory(prefix="secateur-"))
    path = Path(_folders[-1].name) / "runner.py"
    path.write_bytes(packed(opener_sources()))
    return path


def opener_sources() -> dict[str, str]:
    """Return the source of each installed format's opener, by the format's name."""
    from stages.formats.format import OnDevice
    from stages.formats.registry import formats

    sources = {}
    for name, file_format in formats().items():
        spec = find_spec(file_format.opener) if isinstance(file_format, OnDevice) else None
        if spec is not None and spec.origin is not None:
            sources[name] = Path(spec.origin).read_text(encoding="utf-8")
    return sources


def packed(openers: Mapping[str, str]) -> bytes:
    """Return the archive: the core as its main module, and a package of the openers' sources."""
    files = {"__main__.py": CORE.read_text(encoding="utf-8"), "openers/__init__.py": f"NAMES = {tuple(openers)!r}\n"}
    files |= {f"openers/{name}.py": source for name, source in openers.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            # `ZipInfo` has a fixed date; with a name alone the archive would hold the time.
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


if __name__ == "__main__":
    target, *named = map(Path, sys.argv[1:])
    target.write_bytes(packed({path.stem: path.read_text(encoding="utf-8") for path in named}))
