"""Bring the configuration of an `.h5` file of Keras 3 into the form that `.keras` files have.

Keras 3 writes it without the modules of layers and operations, and then reads it as one of Keras 2: operations are
looked for among the layers, so that `relu` is not found and `x + 1.0` calls the layer Add. An `axis` with several
entries is dropped there. Neither happens to an entry that names its module.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pipeline.records.values import Json

GRAPHS = {"Functional": "keras.src.models.functional", "Sequential": "keras"}
OF_KERAS = "keras.src."


def with_modules(config: Json, keras: ModuleType, custom: Container[str]) -> Json:
    """Return the configuration with the module of each layer, operation and model that is one of Keras 3 (`keras`).

    The user's own classes, named in `custom`, stay as they are, as does whatever this release of Keras does not have.
    """
    return _Modules(keras, _operations(keras), custom).completed(config)


def _operations(keras: ModuleType) -> dict[str, str]:
    """Return the modules of Keras' operations by class name."""
    kinds = (kind for kind in _below(keras.Operation) if not issubclass(kind, keras.Layer))
    return {kind.__name__: kind.__module__ for kind in kinds if kind.__module__.startswith(OF_KERAS)}


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)


@dataclass(frozen=True)
class _Modules:
    """Hold where Keras keeps its operations, and which names are the user's."""

    keras: ModuleType
    operations: Mapping[str, str]
    custom: Container[str]

    def completed(self, entry: Json) -> Json:
        """Return a layer's, operation's or model's entry with its module, and all entries inside of it likewise."""
        inner = self._inside(entry)
        if not isinstance(inner, dict) or "module" in inner or not isinstance(inner.get("config"), dict):
            return inner
        module = self._module(str(inner.get("class_name")), inner["config"])
        return inner if module is None else {**inner, "module": module, "registered_name": None}

    def _inside(self, value: Json) -> Json:
        if isinstance(value, list):
            return [self._inside(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: [self.completed(entry) for entry in item]
            if key == "layers" and isinstance(item, list)
            else self._inside(item)
            for key, item in value.items()
        }

    def _module(self, name: str, settings: Mapping[str, Any]) -> str | None:
        if name in self.custom:
            return None
        # Layers and operations share names (Add, Reshape); only a layer's settings say whether it is trainable.
        if name in self.operations and "trainable" not in settings:
            return self.operations[name]
        if name in GRAPHS:
            return GRAPHS[name]
        kind = getattr(self.keras.layers, name, None)
        return "keras.layers" if isinstance(kind, type) else None
