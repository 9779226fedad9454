"""Model files and named applications, read into `tf_keras`: by content, never by suffix, and running nothing in them.

Keras can store Python functions in a file (Lambda layers); loading such a file would run them, so it is refused.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError, RecipeError
from pipeline.recipe import Application
from pipeline.recipe_errors import nearest
from stages.keras_format import application_layers
from stages.tf_runtime import import_keras

HDF5_MAGIC, ZIP_MAGIC = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
CODE_CLASSES = frozenset({"Lambda", "__lambda__"})


@dataclass(frozen=True)
class LoadedModel:
    """A functional or Sequential `tf_keras` model, where it is from, and what was noticed on the way."""

    model: Any
    source: str
    notes: tuple[str, ...] = ()


def load_model(source: str | Path | Mapping[str, Any] | Application) -> LoadedModel:
    """Load a Keras 2 `.keras` or `.h5` file, or build an application from its description.

    Raises:
        RecipeError: the file is not there, or no application has that name.
        ModelError: the file is damaged, of another kind, holds code, or is no graph of layers.
    """
    if isinstance(source, Application):
        return _application(source)
    if isinstance(source, Mapping):
        return _application(Application.model_validate_json(json.dumps(source)))
    path = Path(source)
    if not path.exists():
        raise RecipeError("the model file is not there", where=str(path))
    kind = file_kind(path)
    _refuse_code(_config(path, kind), path)
    model = _read(path, kind)
    return LoadedModel(_graph(model, str(path)), str(path), _notes(model))


def file_kind(path: Path) -> str:
    """`keras` or `h5`, by the first bytes; ModelError for anything else."""
    if path.is_dir():
        hint = "save the model as one .keras or .h5 file with tf_keras"
        raise ModelError("the model is a folder, and SavedModels can't be taken apart", where=str(path), hint=hint)
    with path.open("rb") as file:
        magic = file.read(8)
    if magic == HDF5_MAGIC:
        return "h5"
    if magic.startswith(ZIP_MAGIC):
        return "keras"
    raise ModelError("this is no Keras model file", where=str(path), hint="a .keras or .h5 file of tf_keras is needed")


def _config(path: Path, kind: str) -> Any:
    """The configuration in the file as plain data; checks on the way that the file is whole and of Keras 2."""
    import h5py

    try:
        if kind == "keras":
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
                if broken:
                    raise ModelError(f"{broken} in it is damaged", where=str(path), hint="get the file again")
                version = str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
                config = json.loads(archive.read("config.json"))
        else:
            with h5py.File(path, "r") as file:
                version = _text(file.attrs.get("keras_version", ""))
                if "model_config" not in file.attrs:
                    raise KeyError("model_config")
                config = json.loads(_text(file.attrs["model_config"]))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        what = f"the model file is damaged or cut short: {error}"
        raise ModelError(what, where=str(path), hint="get the file again, or save the model again") from error
    except KeyError as error:
        what = f"the file holds no whole model: {str(error).strip(chr(39))} is missing"
        raise ModelError(what, where=str(path), hint="save with model.save(…), not save_weights(…)") from error
    if version.startswith("3."):
        hint = "save it with tf_keras (Keras 2): build the same layers there and copy the weights"
        raise ModelError(f"the file was written by Keras {version}", where=str(path), hint=hint)
    return config


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _refuse_code(config: Any, path: Path) -> None:
    for name, layer in _classes(config):
        if name in CODE_CLASSES:
            what = f"the layer {layer!r} holds Python code, which loading would run"
            raise ModelError(what, where=str(path), hint="replace the Lambda layer by a layer of Keras, and save again")


def _classes(config: Any, layer: str = "?") -> Iterator[tuple[str, str]]:
    """Every class named anywhere in a configuration, with the name of the layer around it."""
    if isinstance(config, dict):
        name = config.get("class_name")
        settings = config.get("config")
        inner = settings.get("name", layer) if isinstance(settings, dict) else layer
        if isinstance(name, str):
            yield name, str(inner)
        for value in config.values():
            yield from _classes(value, str(inner))
    elif isinstance(config, list):
        for value in config:
            yield from _classes(value, layer)


def _read(path: Path, kind: str) -> Any:
    keras = import_keras()
    # Keras chooses the reader by suffix, and opens .keras files for writing: give it a copy with the right name.
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        copy = Path(folder) / f"model.{kind}"
        shutil.copyfile(path, copy)
        try:
            with keras.utils.custom_object_scope(application_layers()):
                return keras.models.load_model(copy, compile=False, **({"safe_mode": True} if kind == "keras" else {}))
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            hint = "layers of one's own are not supported yet; files of Keras 2 (tf_keras) are"
            raise ModelError(f"the model can't be built: {reason[:300]}", where=str(path), hint=hint) from error


def _graph(model: Any, source: str) -> Any:
    """The model, if it is a graph of layers; a Sequential one that was never built has no shapes yet."""
    keras = import_keras()
    functional = isinstance(model, keras.Sequential) or getattr(model, "_is_graph_network", False)
    if not functional:
        hint = "rebuild it with the functional API: keras.Model(inputs, outputs)"
        raise ModelError("a subclassed model has no graph of layers to work on", where=source, hint=hint)
    if not model.built or not model.inputs:
        raise ModelError("the model was saved without its input shape", where=source, hint="add an Input layer to it")
    return model


def _notes(model: Any) -> tuple[str, ...]:
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    return (f"{len(frozen)} layers are not trainable: {', '.join(frozen[:3])} …",) if frozen else ()


def _application(spec: Application) -> LoadedModel:
    keras = import_keras()
    known = [n for n in dir(keras.applications) if n[0].isupper() and callable(getattr(keras.applications, n))]
    if spec.application not in known:
        hint = nearest(spec.application, known)
        raise RecipeError(f"no application is called {spec.application!r}", where="model.application", hint=hint)
    arguments: dict[str, Any] = {"weights": spec.weights, "include_top": spec.include_top}
    if spec.input_shape:
        arguments["input_shape"] = spec.input_shape
    try:
        model = getattr(keras.applications, spec.application)(**arguments)
    except Exception as error:
        hint = "check input_shape and weights; named weights are downloaded, so they need a network: `weights: null`"
        raise ModelError(f"{spec.application} can't be built: {error}", where="model", hint=hint) from error
    if spec.head:
        features = keras.layers.GlobalAveragePooling2D(name="head_pool")(model.output)
        outputs = keras.layers.Dense(spec.head.classes, activation="softmax", name="head")(features)
        model = keras.Model(model.input, outputs, name=model.name)
    return LoadedModel(model, spec.application)
