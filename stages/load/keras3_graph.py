"""Rebuild a Keras 3 model's configuration in tf_keras: its calls are repeated one by one on tf_keras' tensors.

So tf_keras records the graph in its own form, whatever the form of the file: only what each node calls, and with which
arguments, is read from the configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ModelError, reason_of
from pipeline.records.values import Json
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasLayer, KerasModel, KerasTensor, KerasValue
from stages.load.keras3_layers import UntranslatableError, refused, translate_layer
from stages.load.keras3_masks import note_mask, settle_masks
from stages.load.keras3_operations import OPERATIONS
from stages.load.keras3_translation import Translation

GRAPHS = ("Functional", "Sequential")
Entry = Mapping[str, Any]
Tensors = dict[tuple[str, int, int], KerasTensor]  # by layer, call and output


def build_graph(entry: Entry, original: KerasModel, translation: Translation) -> KerasModel:
    """Return the tf_keras model for `original`'s configuration, its weights still as initialized.

    Raises:
        ModelError: a layer, a setting or an operation has no counterpart; the layer is named.
    """
    if entry["class_name"] == "Sequential":
        return _sequential(entry["config"], original, translation)
    if entry["class_name"] == "Functional" or "input_layers" in entry["config"]:
        return _Functional(entry["config"], original, translation).model()
    what = f"the model is a subclass of keras.Model ({entry['class_name']}): its file has no graph of layers"
    raise ModelError(what, hint="rebuild it with the functional API, and save again")


def _sequential(config: Entry, original: KerasModel, translation: Translation) -> KerasModel:
    """Build one layer after another; as a graph if tf_keras needs more than one layer for one of them."""
    keras = import_keras()
    layers = {layer.name: layer for layer in original.layers}
    model = keras.Sequential(name=config["name"])
    for entry in config["layers"]:
        try:
            layer, then = _layer(entry, layers.get(entry["config"]["name"]), translation)
        except UntranslatableError:
            return _chain(config, original, translation)
        if then is not None:
            return _chain(config, original, translation)
        model.add(layer)
    if not model.built and config.get("build_input_shape"):
        model.build(config["build_input_shape"])
    return _frozen_as(config, model)


def _chain(config: Entry, original: KerasModel, translation: Translation) -> KerasModel:
    """Build a Sequential model as a graph."""
    layers = {layer.name: layer for layer in original.layers}
    (source,) = original.inputs
    start = tensor = import_keras().Input(batch_shape=source.shape, dtype=source.dtype, name=source.name)
    for entry in config["layers"]:
        if entry["class_name"] != "InputLayer":
            (tensor,) = _Call(entry, layers[entry["config"]["name"]], (tensor,), {}).outputs({}, translation)
    return _frozen_as(config, import_keras().Model(start, tensor, name=config["name"]))


def _frozen_as(config: Entry, model: KerasModel) -> KerasModel:
    """Freeze the layers of a frozen model; one that is not frozen leaves them unchanged."""
    if not config.get("trainable", True):
        model.trainable = False
    return model


class _Functional:
    """Build a graph of layers; holds what was made so far."""

    def __init__(self, config: Entry, original: KerasModel, translation: Translation) -> None:
        self._config, self._translation = config, translation
        self._originals = {operation.name: operation for operation in original.operations}
        self._tensors: Tensors = {}
        self._made: dict[str, tuple[Any, Any]] = {}

    def model(self) -> KerasModel:
        config = self._config
        pending = [(entry, number, node) for entry in config["layers"] for number, node in enumerate(_nodes(entry))]
        # In rounds: a layer that is called again waits for layers that stand after it in the file.
        while pending:
            waiting = []
            for entry, number, node in pending:
                if not _ready(node, self._tensors):
                    waiting.append((entry, number, node))
                    continue
                for index, tensor in enumerate(self._outputs(entry, node)):
                    self._tensors[entry["name"], number, index] = tensor
            if len(waiting) == len(pending):
                raise ModelError("the model's layers wait for each other", where=str(waiting[0][0]["name"]))
            pending = waiting
        inner = {entry["name"] for entry in config["layers"] if "input_layers" in entry["config"]}
        inputs, outputs = (_leaves(config[key], self._tensors, inner) for key in ("input_layers", "output_layers"))
        # One output is written as [layer, call, output]; several, or one in a list, as a list of these.
        single = isinstance(config["output_layers"][0], str) if isinstance(config["output_layers"], list) else False
        model = import_keras().Model(inputs, outputs[0] if single else outputs, name=config["name"])
        return _frozen_as(config, model)

    def _outputs(self, entry: Entry, node: Json) -> list[KerasTensor]:
        """Return the tensors that one call of a layer or operation gives."""
        if node is None:
            layer, _ = _layer(entry, None, self._translation)
            return [layer.output]
        args, kwargs = _arguments(node, self._tensors)
        call = _Call(entry, self._originals[str(entry["name"])], args, kwargs)
        return call.outputs(self._made, self._translation)


def _nodes(entry: Entry) -> Sequence[Json]:
    """Return the calls of a layer; of an InputLayer one without arguments."""
    return entry["inbound_nodes"] or ([None] if entry["class_name"] == "InputLayer" else [])


def _layer(entry: Entry, original: KerasLayer, translation: Translation) -> tuple[KerasLayer, Any]:
    """Return a layer or nested model, and what to compute after each of its calls."""
    if entry["class_name"] in GRAPHS:
        return build_graph(entry, original, translation), None
    if entry["class_name"] == "TimeDistributed" and entry["config"]["layer"]["class_name"] in GRAPHS:
        inner = build_graph(entry["config"]["layer"], original.layer, translation)
        return import_keras().layers.TimeDistributed(inner, name=entry["config"]["name"]), None
    translated = translate_layer(entry, translation.objects)
    try:
        return translated.build(), translated.then
    except ModelError:
        raise
    except Exception as error:  # Keras raises whatever its layers raise
        raise refused(str(entry["config"].get("name")), entry["class_name"], reason_of(error)) from error


@dataclass(frozen=True)
class _Call:
    """Translate one call of a layer or operation of Keras 3, on tensors of tf_keras."""

    entry: Entry
    original: KerasLayer
    args: tuple[KerasValue, ...]
    kwargs: dict[str, KerasValue]

    def outputs(self, made: dict[str, tuple[Any, Any]], translation: Translation) -> list[KerasTensor]:
        """Return the tensors that it gives; `made` keeps layers, which may be called again.

        Raises:
            ModelError: neither tf_keras nor TensorFlow's own operations can compute it.
        """
        try:
            if ".ops." in f"{self.entry.get('module')}.":
                return self._operate()
            return self._call_layer(made, translation)
        except UntranslatableError as error:
            return self._trace(error, made, translation)

    def _call_layer(self, made: dict[str, tuple[Any, Any]], translation: Translation) -> list[KerasTensor]:
        name = str(self.entry["config"]["name"])
        if name not in made:
            made[name] = _layer(self.entry, self.original, translation)
        layer, then = made[name]
        # the caller of the Keras 3 model decides on `training`, whatever the file records for the call
        keywords = {key: value for key, value in self.kwargs.items() if value is not None and key != "training"}
        try:
            args, keywords = settle_masks(layer, self.args, keywords)
            flat = import_tensorflow().nest.flatten(layer(*args, **keywords))
        except Exception as error:  # Keras raises whatever its layers raise
            raise refused(name, str(self.entry["class_name"]), reason_of(error)) from error
        note_mask(layer, args, flat)
        return [then(tensor) for tensor in flat] if then else flat

    def _operate(self) -> list[KerasTensor]:
        name, class_name = str(self.entry["config"]["name"]), str(self.entry["class_name"])
        if class_name not in OPERATIONS:
            raise refused(name, class_name, "this operation is not known here")
        try:
            results = OPERATIONS[class_name]({**self.entry["config"], **self.kwargs}, self.args)
        except Exception as error:
            raise refused(name, class_name, f"{type(error).__name__}: {reason_of(error)}") from error
        flat = list(import_tensorflow().nest.flatten(results))
        # Keras 3 has promotion rules of its own between types. Where TensorFlow's differ, the call is traced instead.
        wanted = [tensor.dtype for tensor in self.original._inbound_nodes[0].outputs]  # noqa: SLF001
        if [tensor.dtype.name for tensor in flat] != wanted:
            raise refused(name, class_name, f"its outputs are {', '.join(wanted)}")
        return flat

    def _trace(self, error: UntranslatableError, made: dict[str, Any], translation: Translation) -> list[KerasTensor]:
        from stages.load.keras3_traced import trace_call

        if self.original is None:
            raise error
        return trace_call(self.original, self.args, self.kwargs, error, made, translation)


def _arguments(node: Json, tensors: Tensors) -> tuple[tuple[KerasValue, ...], dict[str, KerasValue]]:
    args = tuple(_argument(value, tensors) for value in node["args"])
    return args, {key: _argument(value, tensors) for key, value in node["kwargs"].items()}


def _argument(value: Json, tensors: Tensors) -> KerasValue:
    """Return an argument of a call, with tensors in place of their references."""
    if isinstance(value, list):
        return [_argument(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    inner: Json = value.get("config")
    match value.get("class_name"):
        case "__keras_tensor__":
            return tensors[_address(inner["keras_history"])]
        case "__slice__":
            return slice(*(_argument(inner[key], tensors) for key in ("start", "stop", "step")))
        case "__ellipsis__":
            return ...
        case "__numpy__" | "__tensor__":
            return import_tensorflow().constant(inner["value"], dtype=inner["dtype"])
        case "DTypePolicy":
            return inner["name"]
    return {key: _argument(item, tensors) for key, item in value.items()}


def _ready(node: Json, tensors: Tensors) -> bool:
    """Return whether all tensors that a call takes are made."""
    if isinstance(node, list):
        return all(_ready(item, tensors) for item in node)
    if not isinstance(node, dict):
        return True
    if node.get("class_name") == "__keras_tensor__":
        return _address(node["config"]["keras_history"]) in tensors
    return all(_ready(item, tensors) for item in node.values())


def _address(history: Sequence[Json]) -> tuple[str, int, int]:
    layer, call, output = history
    return str(layer), int(call), int(output)


def _leaves(structure: Json, tensors: Tensors, inner: Collection[str]) -> list[KerasTensor]:
    """Return the tensors of a model's inputs or outputs, in Keras' order: dictionaries by sorted keys.

    Here, but not where layers are called, Keras 3 counts the calls of the `inner` functional models from one.
    """
    if isinstance(structure, dict):
        return [tensor for key in sorted(structure) for tensor in _leaves(structure[key], tensors, inner)]
    if len(structure) == 3 and isinstance(structure[0], str) and isinstance(structure[1], int):
        layer, call, output = _address(structure)
        return [tensors[layer, call - (layer in inner), output]]
    return [tensor for item in structure for tensor in _leaves(item, tensors, inner)]
