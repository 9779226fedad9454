"""A Keras 3 model's configuration, built anew in tf_keras: its calls are made again, one by one, on tf_keras' tensors.

So tf_keras records the graph in its own form, whatever the form of the file: only what each node calls, and with
which arguments, is read from the configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipeline.errors import ModelError, reason_of
from stages.load.keras3_layers import Objects, refused, translate_layer
from stages.load.keras3_operations import OPERATIONS
from stages.tf_runtime import import_keras, import_tensorflow

GRAPHS = ("Functional", "Sequential")
Entry = Mapping[str, Any]
Tensors = dict[tuple[str, int, int], Any]  # by layer, call and output


def build_graph(entry: Entry, objects: Objects) -> Any:
    """The tf_keras model, its weights still as their initializers made them.

    Raises:
        ModelError: a layer, a setting or an operation has no counterpart; the layer is named.
    """
    if entry["class_name"] == "Sequential":
        return _sequential(entry["config"], objects)
    if entry["class_name"] == "Functional" or "input_layers" in entry["config"]:
        return _functional(entry["config"], objects)
    what = f"the model is a subclass of keras.Model ({entry['class_name']}): its file has no graph of layers"
    raise ModelError(what, hint="rebuild it with the functional API, and save again")


def _sequential(config: Entry, objects: Objects) -> Any:
    keras = import_keras()
    model = keras.Sequential(name=config["name"])
    for entry in config["layers"]:
        layer, then = _layer(entry, objects)
        model.add(layer)
        if then is not None:
            raise refused(layer.name, entry["class_name"], "its activation does not fit into a Sequential model")
    if not model.built and config.get("build_input_shape"):
        model.build(config["build_input_shape"])
    return _frozen_as(config, model)


def _frozen_as(config: Entry, model: Any) -> Any:
    """A frozen model freezes its layers; one that is not leaves them as they are."""
    if not config.get("trainable", True):
        model.trainable = False
    return model


def _functional(config: Entry, objects: Objects) -> Any:
    tensors: Tensors = {}
    made: dict[str, tuple[Any, Any]] = {}
    pending = [(entry, place, node) for entry in config["layers"] for place, node in enumerate(_nodes(entry))]
    while pending:
        waiting = []
        for entry, place, node in pending:
            if not _ready(node, tensors):
                waiting.append((entry, place, node))
                continue
            for index, tensor in enumerate(_call(entry, node, tensors, made, objects)):
                tensors[entry["name"], place, index] = tensor
        if len(waiting) == len(pending):
            raise ModelError("the model's layers wait for each other", where=str(waiting[0][0]["name"]))
        pending = waiting
    inner = {entry["name"] for entry in config["layers"] if "input_layers" in entry["config"]}
    inputs, outputs = (_leaves(config[key], tensors, inner) for key in ("input_layers", "output_layers"))
    single = isinstance(config["output_layers"][0], str) if isinstance(config["output_layers"], list) else False
    model = import_keras().Model(inputs, outputs[0] if single else outputs, name=config["name"])
    return _frozen_as(config, model)


def _nodes(entry: Entry) -> Sequence[Any]:
    """The calls of a layer; of an InputLayer one without arguments."""
    return entry["inbound_nodes"] or ([None] if entry["class_name"] == "InputLayer" else [])


def _layer(entry: Entry, objects: Objects) -> tuple[Any, Any]:
    """A layer or nested model, and what is to be computed after each of its calls."""
    if entry["class_name"] in GRAPHS:
        return build_graph(entry, objects), None
    if entry["class_name"] == "TimeDistributed" and entry["config"]["layer"]["class_name"] in GRAPHS:
        inner = build_graph(entry["config"]["layer"], objects)
        return import_keras().layers.TimeDistributed(inner, name=entry["config"]["name"]), None
    translated = translate_layer(entry, objects)
    try:
        return translated.build(), translated.then
    except ModelError:
        raise
    except Exception as error:  # Keras raises whatever its layers raise
        raise refused(str(entry["config"].get("name")), entry["class_name"], reason_of(error)) from error


def _call(entry: Entry, node: Any, tensors: Tensors, made: dict[str, tuple[Any, Any]], objects: Objects) -> list[Any]:
    """The tensors that one call of a layer or operation gives."""
    name, class_name = str(entry["name"]), str(entry["class_name"])
    if ".ops." in f"{entry.get('module')}." and node is not None:
        return _operate(entry, node, tensors)
    if name not in made:
        made[name] = _layer(entry, objects)
    layer, then = made[name]
    if node is None:
        return [layer.output]
    args, kwargs = _arguments(node, tensors)
    given = {key: value for key, value in kwargs.items() if value is not None}
    if given.get("training") is True:  # Keras 3 notes it for augmentation, and lets the model's caller decide
        del given["training"]
    try:
        outputs = layer(*args, **given)
    except Exception as error:  # Keras raises whatever its layers raise
        raise refused(name, class_name, reason_of(error)) from error
    flat = import_tensorflow().nest.flatten(outputs)
    return [then(tensor) for tensor in flat] if then else flat


def _operate(entry: Entry, node: Any, tensors: Tensors) -> list[Any]:
    name, class_name = str(entry["name"]), str(entry["class_name"])
    if class_name not in OPERATIONS:
        raise refused(name, class_name, "this operation is not known here")
    args, kwargs = _arguments(node, tensors)
    try:
        found = OPERATIONS[class_name]({**entry["config"], **kwargs}, args)
    except Exception as error:
        raise refused(name, class_name, f"{type(error).__name__}: {reason_of(error)}") from error
    return list(import_tensorflow().nest.flatten(found))


def _arguments(node: Any, tensors: Tensors) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args = tuple(_argument(value, tensors) for value in node["args"])
    return args, {key: _argument(value, tensors) for key, value in node["kwargs"].items()}


def _argument(value: Any, tensors: Tensors) -> Any:
    """An argument of a call, with tensors in place of what names them."""
    if isinstance(value, list):
        return [_argument(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    inner: Any = value.get("config")
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


def _ready(node: Any, tensors: Tensors) -> bool:
    """Whether all tensors that a call takes are made."""
    if isinstance(node, list):
        return all(_ready(item, tensors) for item in node)
    if not isinstance(node, dict):
        return True
    if node.get("class_name") == "__keras_tensor__":
        return _address(node["config"]["keras_history"]) in tensors
    return all(_ready(item, tensors) for item in node.values())


def _address(history: Sequence[Any]) -> tuple[str, int, int]:
    layer, call, output = history
    return str(layer), int(call), int(output)


def _leaves(structure: Any, tensors: Tensors, inner: Collection[str]) -> list[Any]:
    """The tensors of a model's inputs or outputs, in Keras' order: dictionaries by sorted keys.

    Here, and not where layers are called, Keras 3 counts the calls of the `inner` functional models from one.
    """
    if isinstance(structure, dict):
        return [tensor for key in sorted(structure) for tensor in _leaves(structure[key], tensors, inner)]
    if len(structure) == 3 and isinstance(structure[0], str) and isinstance(structure[1], int):
        layer, call, output = _address(structure)
        return [tensors[layer, call - (layer in inner), output]]
    return [tensor for item in structure for tensor in _leaves(item, tensors, inner)]
