"""Open model files with care: bounds and links checked first, then the configuration as plain data, then Keras.

Keras gets a copy under the suffix that it needs, in a separate folder: it detects formats by suffix, and opens some
files for writing.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import ModelError, reason_of
from pipeline.records.values import Json
from stages.keras.archived_weights import weights_apart
from stages.keras.normal_form import buildable
from stages.keras.types import KerasModel
from stages.load.archives import check_hdf5, check_zip, refuse_large_text
from stages.load.keras3_hdf5 import with_modules
from stages.load.recognise import HDF5_MAGIC, FileKind

AGAIN = "get the file again, or save the model again"
CONFIG, WEIGHTS = "config.json", "model.weights.h5"


@dataclass(frozen=True)
class StoredModel:
    """Hold a model file that is safe to open: its kind, its configuration as plain data, and who wrote it."""

    path: Path
    kind: FileKind
    config: Json
    keras3: bool


def open_stored(path: Path, kind: FileKind) -> StoredModel:
    """Read the configuration of a `.keras`, HDF5 or JSON file.

    Raises:
        ModelError: the file is damaged, not safe to open, or holds no model.
    """
    readers: Mapping[str, Callable[[Path], tuple[Json, str]]] = {"keras": _zip, "h5": _hdf5, "json": _json}
    with damage(path):
        config, version = readers[kind](path)
        config = buildable(config)
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict | list):
        raise ModelError("the file describes no model", where=str(path), hint=AGAIN)
    return StoredModel(path, kind, config, _of_keras3(config, version))


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Translate errors of reading for the user: the file is damaged, or a part of it is missing."""
    try:
        yield
    except KeyError as error:
        what = f"the file holds no whole model: {str(error).strip(chr(39))} is missing"
        raise ModelError(what, where=str(path), hint="save with model.save(…), not save_weights(…)") from error
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, RecursionError) as error:
        raise ModelError(f"the model file is damaged or cut short: {error}", where=str(path), hint=AGAIN) from error
    except ModelError as error:
        raise ModelError(error.what, where=str(path), hint=error.hint) from error


def _zip(path: Path) -> tuple[Json, str]:
    import h5py

    with zipfile.ZipFile(path) as archive:
        check_zip(archive, path)
        # After the sizes are checked: this unpacks every member.
        broken = archive.testzip()
        if broken:
            raise ModelError(f"{broken} in it is damaged", hint="get the file again")
        for name in ("metadata.json", CONFIG):
            refuse_large_text(archive.getinfo(name).file_size, path)
        version = str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
        config = json.loads(archive.read(CONFIG))
        with h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r") as file:
            check_hdf5(file, path)
    return config, version


def _hdf5(path: Path) -> tuple[Json, str]:
    import h5py

    with h5py.File(path, "r") as file:
        check_hdf5(file, path)
        if "model_config" not in file.attrs:
            if "layer_names" in file.attrs or "layers" in file or "_layer_checkpoint_dependencies" in file:
                hint = (
                    "say what for: `model: {path: architecture.json, weights: FILE}` or {application: …, weights: FILE}"
                )
                raise ModelError("the file holds weights alone: model_config is missing", hint=hint)
            raise KeyError("model_config")
        # The size is asked of HDF5, without reading the attribute.
        refuse_large_text(file.attrs.get_id("model_config").get_storage_size(), path)
        return json.loads(_text(file.attrs["model_config"])), _text(file.attrs.get("keras_version", ""))


def _json(path: Path) -> tuple[Json, str]:
    refuse_large_text(path.stat().st_size, path)
    config = json.loads(path.read_text(encoding="utf-8"))
    return config, str(config.get("keras_version", ""))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _of_keras3(config: Json, version: str) -> bool:
    """Return whether Keras 3 wrote it; JSON has no version, but inputs and tensors are written differently."""
    if version:
        return version.startswith("3.")
    text = json.dumps(config)
    return any(word in text for word in ('"__keras_tensor__"', '"batch_shape"', '"DTypePolicy"'))


def read_model(stored: StoredModel, keras: ModuleType, objects: Mapping[str, Any], *, trust: bool) -> KerasModel:
    """Return the model, built by the Keras that wrote it (`keras`); from JSON, without weights.

    Of its `.h5` files Keras 3 reads some wrong: they are built as from a `.keras` file, by what `keras3_hdf5` adds.
    """
    if stored.kind == "h5" and stored.keras3:
        stored = replace(stored, config=with_modules(stored.config, keras, objects))
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        copy = Path(folder) / f"model.{stored.kind}"
        try:
            with keras.utils.custom_object_scope(dict(objects)):
                if stored.kind == "json":
                    if stored.keras3:
                        return keras.saving.deserialize_keras_object(stored.config, safe_mode=not trust)
                    return keras.models.model_from_json(json.dumps(stored.config))
                if stored.kind == "h5" and stored.keras3 and "module" in stored.config:
                    model = keras.saving.deserialize_keras_object(stored.config, safe_mode=not trust)
                    return _with_own_weights(model, stored.path)
                (_copy_archive if stored.kind == "keras" else _copy_hdf5)(stored, copy)
                # tf_keras has no safe mode for HDF5: code was refused before
                safe = {"safe_mode": not trust} if stored.keras3 or stored.kind == "keras" else {}
                with nullcontext() if stored.keras3 else weights_apart():
                    return keras.models.load_model(copy, compile=False, **safe)
        except ModelError:
            raise
        except Exception as error:  # Keras raises whatever its layers raise
            hint = "layers of your own need `model: {path: …, custom_objects: [module:Name]}`"
            if stored.kind == "keras" and "QuantizeWrapper" in json.dumps(stored.config):
                hint = "what tfmot quantizes does not survive its .keras files: save the model as .h5"
            raise ModelError(
                f"the model can't be built: {reason_of(error)}", where=str(stored.path), hint=hint
            ) from error


def _with_own_weights(model: KerasModel, path: Path) -> KerasModel:
    """Load the weights that stand beside the configuration; a model without an input shape has no place for them."""
    if model.built:
        put_stored_weights(model, path)
    return model


def _copy_archive(stored: StoredModel, copy: Path) -> None:
    """Write the archive with the configuration that was checked in place of the one in the file."""
    with zipfile.ZipFile(stored.path) as source, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as target:
        for member in source.infolist():
            if member.filename == CONFIG:
                target.writestr(CONFIG, json.dumps(stored.config))
            elif not member.is_dir():
                # `force_zip64`, since zipfile does not know beforehand that a member written in pieces will exceed 2
                # GB.
                with source.open(member) as read, target.open(member.filename, "w", force_zip64=True) as written:
                    shutil.copyfileobj(read, written, 1 << 20)


def _copy_hdf5(stored: StoredModel, copy: Path) -> None:
    import h5py

    shutil.copyfile(stored.path, copy)
    with h5py.File(copy, "r+") as file:
        # What Keras builds is what was checked, as in archives.
        file.attrs["model_config"] = json.dumps(stored.config).encode()


def put_stored_weights(model: KerasModel, path: Path) -> None:
    """Load weights from a file into a model of either Keras; the file may hold a whole model.

    Raises:
        ModelError: the file is not a file of weights, not safe to open, or its weights do not fit.
    """
    import h5py

    with damage(path):
        with path.open("rb") as file:
            magic = file.read(8)
        if magic != HDF5_MAGIC:
            raise ModelError("these are no weights of Keras", hint="a .weights.h5 or .h5 file is needed")
        with h5py.File(path, "r") as archive:
            check_hdf5(archive, path)
            legacy = "layer_names" in archive.attrs or "model_weights" in archive
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        # By the suffix `.weights.h5` Keras tells its new layout from the old one.
        copy = Path(folder) / ("weights.h5" if legacy else "model.weights.h5")
        shutil.copyfile(path, copy)
        try:
            model.load_weights(copy)
        except Exception as error:  # Keras raises whatever its layers raise
            raise ModelError(
                f"the weights don't fit the model: {reason_of(error)}", where=str(path), hint="are they of this model?"
            ) from error
