"""Find the owners of a file's operators: the layers of the Keras model, by the names that its user knows.

Operators are named after the scopes in which they were traced (`net/inner/conv/Conv2D`), and merged ones after all of
them (`net/add/add;net/conv/Conv2D`). Layers in a nested model are called `inner/conv`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.records.values import Json
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel

OPERATIONS = frozenset({"TFOpLambda", "SlicingOpLambda", "InstanceMethod", "InstanceProperty", "ClassMethod"})
CALL = "StatefulPartitionedCall"  # the converter's prefix for outputs


@dataclass(frozen=True, slots=True)
class Layer:
    """Describe a layer: its inner layers if it is a model; if it is an operation between layers, after which."""

    inner: Mapping[str, Layer] = field(default_factory=dict)
    operation: bool = False
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Owners:
    """Hold the layers of a model by name, and its own name."""

    model: str
    layers: Mapping[str, Layer]

    def said_of(self, operator: str) -> str:
        """Return `layer 'conv'` for an operator's name, `operation 'tf.abs' after 'conv'`, or the name itself."""
        order = list(self.layers)
        parts = [owner for part in operator.split(";") if (owner := self._found(part))]
        known = dict(sorted(parts, key=lambda owner: order.index(owner[0].partition("/")[0])))
        words = [*_layers_said([name for name, layer in known.items() if not layer.operation])]
        words += [_operation_said(name, layer) for name, layer in known.items() if layer.operation]
        whole = "the model's output" if operator.startswith(CALL) else f"operator {operator!r}"
        return ", ".join(words) or whole

    def _found(self, operator: str) -> tuple[str, Layer] | None:
        # The converter may write the traced function behind the name, after an `@`.
        parts = operator.partition("@")[0].split("/")
        while parts and parts[0] != self.model:  # names of functions may come before it
            parts = parts[1:]
        path, layer, layers = list[str](), None, self.layers
        for part in parts[1:]:
            if part not in layers:
                break
            path.append(part)
            layer = layers[part]
            layers = layer.inner
        return ("/".join(path), layer) if layer else None


def _layers_said(names: Sequence[str]) -> Iterator[str]:
    if names:
        *first, last = map(repr, names)
        yield f"layers {', '.join(first)} and {last}" if first else f"layer {last}"


def _operation_said(name: str, layer: Layer) -> str:
    after = " and ".join(map(repr, layer.after))
    return f"operation {name!r} after {after}" if after else f"operation {name!r}"


def owners_of(model: KerasModel) -> Owners:
    """Return the owners of a loaded Keras model."""
    return Owners(model.name, _layers_of(model))


def _layers_of(model: KerasModel) -> dict[str, Layer]:
    layers = dict[str, Layer]()
    for layer in _inner(model):
        operation = type(layer).__name__ in OPERATIONS
        after = tuple(dict.fromkeys(_before(layer))) if operation else ()
        layers[layer.name] = Layer(_layers_of(layer), operation, after)
    return layers


def _inner(layer: KerasLayer) -> Sequence[KerasLayer]:
    """Return the layers of a model; other layers may use `layers` for anything."""
    # A Bidirectional or a user's own class may have an attribute `layers` that is no list of layers of a graph.
    return layer.layers if isinstance(layer, import_keras().Model) else ()


def _before(operation: KerasLayer) -> Iterator[str]:
    """Yield the layers, including inputs, that feed an operation, possibly through other operations."""
    for tensor in operation.inbound_nodes[0].keras_inputs if operation.inbound_nodes else ():
        layer = tensor._keras_history.layer  # noqa: SLF001 - no public way from a tensor to its layer
        if type(layer).__name__ in OPERATIONS:
            yield from _before(layer)
        else:
            yield layer.name


def stored_owners(model: Path) -> Owners:
    """Return the owners of a stored Keras model without loading it; operations don't know what they come after."""
    config = stored_config(model)["config"]
    return Owners(str(config["name"]), _layers_in(config))


def stored_config(model: Path) -> Json:
    """Return the configuration in a stored Keras model."""
    with zipfile.ZipFile(model) as archive:
        return json.loads(archive.read("config.json"))


def _layers_in(config: Mapping[str, Json]) -> dict[str, Layer]:
    entries = [entry for entry in config.get("layers", ()) if "name" in entry.get("config", {})]
    return {
        entry["config"]["name"]: Layer(_layers_in(entry["config"]), entry["class_name"] in OPERATIONS)
        for entry in entries
    }


def paths_of(model: KerasModel, layers: Sequence[KerasLayer]) -> list[str]:
    """Return the names of layers anywhere in `model`; one in a wrapper has the wrapper's name."""
    names = {id(inner): path for path, layer in _walked(model) for inner in layer._flatten_layers()}  # noqa: SLF001
    # Second: the line above gives all that is inside of a nested model the path of the model, here its layers get their
    # own.
    names |= {id(layer): path for path, layer in _walked(model)}
    return list(dict.fromkeys(names.get(id(layer), layer.name) for layer in layers))


def _walked(model: KerasModel, prefix: str = "") -> Iterator[tuple[str, KerasLayer]]:
    for layer in _inner(model):
        yield f"{prefix}{layer.name}", layer
        yield from _walked(layer, f"{prefix}{layer.name}/")


def lacking(model: KerasModel, runtime: str, operators: Sequence[tuple[str, str]]) -> str:
    """Write one sentence on operators (kind, name) that a runtime lacks, each with its layer."""
    owners, wanted = owners_of(model), dict[str, list[str]]()
    for kind, name in operators:
        wanted.setdefault(kind, []).append(owners.said_of(name))
    text = "; ".join(f"{kind} of {', '.join(dict.fromkeys(places))}" for kind, places in wanted.items())
    return f"{runtime} can't represent the model: it has no operator for {text}"
