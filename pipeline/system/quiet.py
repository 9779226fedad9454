"""Silence other people's libraries without losing what they said.

Converters and runtimes log from C++ straight to file descriptor 2, from Python through the root logger (whose first
message installs a handler for good), and through warnings. Stages never print; but when a call fails, what the library
said is often the only reason there is, so it is kept for the error.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STDERR = 2
KEPT_CHARS = 2000
KEPT_PREFIX = "said-"

_folder: list[Path] = []  # where captured text is kept as a file, in a child process that may die meanwhile


def keep_in(folder: Path) -> None:
    """Keep what is captured from now on in a file of `folder`, for the duration of the silence."""
    _folder[:] = [folder]


@dataclass(frozen=True, slots=True)
class Silence:
    """Redirect file descriptor 2 to a file (`captured`) for a while; `outside` is its previous destination."""

    captured: int
    outside: int

    def text(self) -> str:
        """Return the end of what was written so far."""
        size = os.fstat(self.captured).st_size
        data = os.pread(self.captured, KEPT_CHARS, max(0, size - KEPT_CHARS))  # leaves the shared offset alone
        return data.decode(errors="replace").strip()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Lift the silence for callbacks into our own code (progress) from a silenced call."""
        sys.stderr.flush()
        os.dup2(self.outside, STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(self.captured, STDERR)


def _capture() -> AbstractContextManager[Any]:
    """Return the file that file descriptor 2 leads to meanwhile; closing deletes it."""
    return tempfile.NamedTemporaryFile(dir=_folder[0], prefix=KEPT_PREFIX) if _folder else tempfile.TemporaryFile()


@contextmanager
def quiet() -> Iterator[Silence]:
    """Silence warnings, the root logger's default handler and file descriptor 2 of the whole process."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)  # with any handler there, logging.warning() installs none of its own
    # What Python holds back until now belongs to where the descriptor leads now, not to the file.
    sys.stderr.flush()
    outside = os.dup(STDERR)
    try:
        with _capture() as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.dup2(file.fileno(), STDERR)
            try:
                yield Silence(file.fileno(), outside)
            finally:
                sys.stderr.flush()
                os.dup2(outside, STDERR)
    finally:
        os.close(outside)
        root.removeHandler(handler)
