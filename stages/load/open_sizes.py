"""Tell from a model's files whether it may leave sizes of its inputs open, without building it.

All formats of Keras describe inputs in JSON, as a shape in which a size besides the batch is null. An inner model that
leaves sizes open looks the same, so the answer may be a false yes: then the key of `load` also holds the shapes of the
data's samples, with no other effect.
"""

from __future__ import annotations

import mmap
import re
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pipeline.recipe.model_files import FILE
from pipeline.recipe.model_spec import Application
from pipeline.store.file_digests import FileDigests

MOST_TEXT = 64 * 2**20
CONFIG, METADATA = "config.json", "keras_metadata.pb"  # of a .keras file, of a SavedModel
NAMES = rb'"(?:batch_shape|batch_input_shape|build_input_shape)"'
SIZE = rb"(?:null|\d+)\s*,\s*"
OPEN = re.compile(NAMES + rb"\s*:\s*(?:\{[^\[\]{}]*)?\[\s*" + SIZE + rb"(?:\d+\s*,\s*)*null")


def may_leave_sizes_open(application: Application | None, files: Mapping[str, Path], digests: FileDigests) -> bool:
    """Return whether a model, an application or in files, may leave sizes open; remembered for unchanged files.

    No for files that are not a model or are damaged: loading reports that.
    """
    if application is not None:
        return not application.include_top and application.input_shape is None
    path = files[FILE]
    described = path / METADATA if path.is_dir() else path
    if not described.is_file():
        return False
    return digests.remembered(described, "sizes", partial(_looked_up, described)) == "open"


def _looked_up(path: Path) -> str:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                # Bounded, because nothing in the file has been checked yet.
                return _answer(archive.open(CONFIG).read(MOST_TEXT))
        # The JSON is found among the bytes of an HDF5 file, so that `plan` needs neither h5py nor TensorFlow.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _answer(content)
    # zipfile raises RuntimeError for encrypted members, NotImplementedError for unknown compression.
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return "unknown"


def _answer(text: bytes | mmap.mmap) -> str:
    return "open" if OPEN.search(text) else "fixed"
