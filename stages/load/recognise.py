"""Identify a model file by its first bytes, never by its name; for any other file, guess what it is."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from pipeline.errors import ModelError, RecipeError

FileKind = Literal["h5", "keras", "saved_model", "json"]
HDF5_MAGIC, ZIP_MAGIC = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
HINT = "a model of Keras is needed: .keras, .h5, a SavedModel folder, or its architecture in JSON"


def file_kind(path: Path) -> FileKind:
    """Return the kind of model that a file or folder holds.

    Raises:
        RecipeError: it does not exist.
        ModelError: it is of another kind; the error says which, if that can be told.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "saved_model"
        raise ModelError("the folder is no SavedModel: it has no saved_model.pb", where=str(path), hint=HINT)
    if not path.is_file():
        raise RecipeError("the model file is not there", where=str(path))
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(HDF5_MAGIC):
        return "h5"
    if head.startswith(ZIP_MAGIC):
        return _zip_kind(path)
    if head.lstrip()[:1] == b"{":
        return "json"
    seems = _foreign(head)
    raise ModelError("this is no Keras model file" + (f" but {seems}" if seems else ""), where=str(path), hint=HINT)


def _zip_kind(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        what = f"the model file is damaged or cut short: {error}"
        raise ModelError(what, where=str(path), hint="get the file again, or save the model again") from error
    if any(name.endswith("data.pkl") for name in names):
        hint = "PyTorch models are not read: they are pickles, and no graph of layers"
        raise ModelError("this is no Keras model file but one of PyTorch", where=str(path), hint=hint)
    if any(name.endswith(".npy") for name in names):
        raise ModelError("this is no Keras model file but arrays of numpy (.npz)", where=str(path), hint=HINT)
    if any(name.endswith("saved_model.pb") for name in names):
        raise ModelError("this is a SavedModel in a zip archive", where=str(path), hint="unpack it, name the folder")
    return "keras"


def _foreign(head: bytes) -> str | None:
    """Guess what another file is."""
    if head[4:8] == b"TFL3":
        return "one of TFLite, which can't be taken apart again"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "a pickle, and those run code when they are read"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip archive: unpack it"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS: fetch the file itself with `git lfs pull`"
    if head.startswith((b"<!DOCTYPE", b"<html")):
        return "a web page: the download failed"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it"
    # ONNX: field 1 (the IR version), then usually the producer's name or the graph
    if head[:1] == b"\x08" and len(head) > 3 and head[2:3] in b"\x12\x3a\x1a":
        return "one of ONNX, which can't be trained and pruned as a Keras model"
    return None
