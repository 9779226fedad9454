"""Let tf_keras read the weights of a `.keras` archive from a file of their own.

tf_keras has HDF5 read them where they stand in the archive, back and forth, and each time that HDF5 goes back, Python's
zipfile begins again at their first byte: the time grows with the square of their size. Keras 3 reads them apart.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any


@contextmanager
def weights_apart() -> Iterator[None]:
    """Let `load_model` of tf_keras extract the weights first, meanwhile."""
    from tf_keras.src.saving import saving_lib

    own: Any = saving_lib.H5IOStore

    class Apart(own):  # type: ignore[misc]
        def __init__(self, root_path: str, archive: Any = None, mode: str = "r") -> None:
            apart = archive is not None and mode == "r"
            super().__init__(root_path, _Extracting(archive, opened) if apart else archive, mode)

    with ExitStack() as opened:
        opened.callback(setattr, saving_lib, "H5IOStore", own)
        saving_lib.H5IOStore = Apart
        yield


@dataclass(frozen=True, slots=True)
class _Extracting:
    """Open members of an archive as files that can go back, until `opened` ends: tf_keras leaves what it can't read."""

    archive: zipfile.ZipFile
    opened: ExitStack

    def open(self, name: str, _mode: str) -> IO[bytes]:
        file = tempfile.TemporaryFile(prefix="secateur-")  # noqa: SIM115 - closed with the stack
        self.opened.enter_context(file)
        with self.archive.open(name) as member:
            shutil.copyfileobj(member, file, 1 << 20)
        return file
