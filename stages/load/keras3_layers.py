"""Translate the settings of one Keras 3 layer: argument names, dtype policies, activations, initializers.

A setting that tf_keras does not know is dropped only if its value changes nothing; else the layer is refused by name.
Activations of the same name may differ (`hard_sigmoid`): such ones become operations after the layer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ModelError
from pipeline.records.values import Json
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasTensor
from stages.load.keras3_operations import ACTIVATIONS

RENAMED = {("InputLayer", "batch_shape"): "batch_input_shape", ("LeakyReLU", "negative_slope"): "alpha"}
SAME_ACTIVATIONS = frozenset(
    {"elu", "exponential", "gelu", "linear", "mish", "relu", "selu", "sigmoid", "softmax", "softplus", "softsign"}
    | {"swish", "tanh"}
)
LOOKUPS = frozenset({"IntegerLookup", "StringLookup"})
OTHERWISE = frozenset({"RandomCrop", "Discretization"})  # computes something else under the same name
ANYTHING = object()
NEUTRAL: Mapping[str, tuple[Any, ...] | object] = {
    "quantization_config": (None,),
    "lora_rank": ANYTHING,  # its addition is merged into the kernel
    "lora_alpha": ANYTHING,
    "renorm": (False,),
    "renorm_clipping": (None,),
    "renorm_momentum": ANYTHING,  # only read if renorm is set
    "rms_scaling": (False,),
    "sliding_window": (None,),
    "use_gate": (False,),
    "flash_attention": (None, False),
    "optional": (False,),
    "vocabulary_size": ANYTHING,  # follows from the vocabulary
    "oov_method": ("floormod",),
    "salt": (None,),
    "zero_output_for_mask": (False,),
    "data_format": ("channels_last",),
    "antialias": (False,),
    "pad_to_aspect_ratio": (False,),
    "fill_mode": ("constant",),  # of Resizing, only read with pad_to_aspect_ratio
    "fill_value": (0.0,),
    "seed": ANYTHING,  # this and the following matter only for training or speed
    "value_range": ANYTHING,
    "use_cudnn": ANYTHING,
    "synchronized": ANYTHING,
    "autocast": ANYTHING,
}
BASE_ARGUMENTS = frozenset({"name", "trainable", "dtype", "activity_regularizer", "batch_input_shape", "dynamic"})


@dataclass(frozen=True)
class Objects:
    """Hold classes by their names in the file, in addition to Keras' own: the user's, and those of applications."""

    keras2: Mapping[str, Any]
    keras3: Mapping[str, Any]


@dataclass(frozen=True)
class TranslatedLayer:
    """Hold a class of tf_keras, the settings for its `from_config`, and the activation to apply to its output."""

    kind: type[KerasLayer]
    config: dict[str, Any]
    then: Callable[[KerasTensor], KerasTensor] | None = None

    def build(self) -> KerasLayer:
        attention = self.kind.__name__ == "MultiHeadAttention"  # it needs shapes that only its calls tell
        shapes = dict.fromkeys(("query_shape", "key_shape", "value_shape")) if attention else {}
        return self.kind.from_config(self.config | shapes)


def translate_layer(entry: Mapping[str, Any], objects: Objects) -> TranslatedLayer:
    """Translate one layer of a Keras 3 configuration (`class_name`, `config`).

    Raises:
        ModelError: tf_keras has no such layer, or a setting that changes what it computes has no counterpart.
    """
    class_name, settings = str(entry["class_name"]), dict(entry["config"])
    name = str(settings.get("name", class_name))
    kind = objects.keras2.get(class_name) or getattr(import_keras().layers, class_name, None)
    if kind is None or class_name in OTHERWISE:
        raise refused(name, class_name, f"tf_keras has no layer {class_name}")
    accepted = _arguments(kind)
    config: dict[str, Any] = {}
    then = None
    for key, value in settings.items():
        target = str(RENAMED.get((class_name, key), key))
        if key == "zero_output_for_mask" and value is False:
            continue  # tf_keras writes it only if it is set
        if key == "dtype" and class_name in LOOKUPS:
            continue  # Keras 3 records it for other layers
        if target not in accepted and accepted is not EVERYTHING:
            _check_neutral(name, class_name, key, value)
        elif key == "activation":
            config[target], then = _activation(value, name, class_name, objects)
        else:
            config[target] = _value(key, value, name, class_name, objects)
    if class_name == "Lambda":
        config = _with_function(config)
    if class_name == "Bidirectional":
        config = _with_twin(config)
    return TranslatedLayer(kind, config, then)


def _with_twin(config: dict[str, Any]) -> dict[str, Any]:
    """Return a Bidirectional's settings: Keras 3 always writes both directions, tf_keras only separately given ones."""
    forward, backward = (dict(config[key]["config"]) for key in ("layer", "backward_layer"))
    names = [
        str(direction.pop("name")).removeprefix(word)
        for direction, word in ((forward, "forward_"), (backward, "backward_"))
    ]
    twins = names[0] == names[1] and {**forward, "go_backwards": not forward["go_backwards"]} == backward
    named = {**config["layer"], "config": {**config["layer"]["config"], "name": names[0]}}
    other = {**config["backward_layer"], "config": {**config["backward_layer"]["config"], "name": names[1]}}
    rest = {key: value for key, value in config.items() if key != "backward_layer"}
    return {**rest, "layer": named} | ({} if twins else {"backward_layer": other})


def _with_function(config: dict[str, Any]) -> dict[str, Any]:
    """Return a Lambda's settings: tf_keras needs explicitly what Keras 3 tells by form."""
    function = config["function"]
    code = function["config"]["value"] if function["class_name"] == "__lambda__" else None
    kinds = {"function_type": "lambda" if code else "function", "output_shape_type": "raw"}
    return {**config, **kinds, "function": tuple(code) if code else function}


class UntranslatableError(ModelError):
    """Raised if a layer, a setting or an operation has no counterpart in tf_keras."""


def refused(name: str, class_name: str, why: str) -> UntranslatableError:
    """Return the error for a layer that has no counterpart in tf_keras."""
    hint = "save the model with tf_keras, or replace the layer and save again"
    return UntranslatableError(
        f"the layer {name!r} ({class_name}) of Keras 3 can't be carried over: {why}", where=name, hint=hint
    )


class _Everything(frozenset[str]):
    """Represent what a class accepts that takes keywords of any name."""


EVERYTHING = _Everything()


def _arguments(kind: Any) -> frozenset[str]:
    """Return the names that a layer's constructor takes, including its parents'."""
    if not kind.__module__.startswith(("tf_keras", "keras")):
        return EVERYTHING
    names = set(BASE_ARGUMENTS)
    if issubclass(kind, import_keras().layers.RNN):
        names.add("zero_output_for_mask")  # it pops this from its keywords
    for parent in kind.__mro__:
        parameters = inspect.signature(parent.__init__).parameters.values()
        names |= {parameter.name for parameter in parameters}
        # A constructor passes names on to its parent only through `**kwargs`.
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return frozenset(names)


def _check_neutral(name: str, class_name: str, key: str, value: object) -> None:
    neutral = NEUTRAL.get(key, ())
    if neutral is ANYTHING or (isinstance(neutral, tuple) and value in neutral):
        return
    raise refused(name, class_name, f"tf_keras does not know its setting {key} = {value!r}")


def _activation(
    value: Json, name: str, class_name: str, objects: Objects
) -> tuple[Json, Callable[[KerasTensor], KerasTensor] | None]:
    """Return the activation in tf_keras, and what to compute after the layer instead, if it has no name there."""
    if isinstance(value, dict) and value.get("class_name") != "function":
        return _value("activation", value, name, class_name, objects), None
    known = str(value["config"] if isinstance(value, dict) else value or "linear")
    known = {"silu": "swish"}.get(known, known)
    if known in SAME_ACTIVATIONS:
        return known, None
    if known in objects.keras2:
        return known, None
    # Recurrent layers use it inside of each step, where nothing can be put after the layer.
    if known in ACTIVATIONS and class_name not in ("LSTM", "GRU", "SimpleRNN"):
        return "linear", ACTIVATIONS[known]
    raise refused(name, class_name, f"tf_keras has no activation {known} that computes the same")


def _value(key: str, value: Json, name: str, class_name: str, objects: Objects) -> Json:
    """Return a setting's value; layers inside it are translated too."""
    if isinstance(value, list):
        return [_value(key, item, name, class_name, objects) for item in value]
    if key == "recurrent_activation":
        known, then = _activation(value, name, class_name, objects)
        if then is None:
            return known
        raise refused(name, class_name, f"tf_keras has no activation {value} that computes the same")
    if not isinstance(value, dict):
        return value
    if key == "dtype":
        return _dtype(value, name, class_name)
    if "class_name" not in value or "config" not in value:
        return {inner: _value(inner, item, name, class_name, objects) for inner, item in value.items()}
    if str(value["class_name"]).startswith("__"):
        return _plain_value(value["class_name"], value["config"])
    if key.endswith("initializer"):
        return _initializer(value, objects)
    if hasattr(import_keras().layers, value["class_name"]) or value["class_name"] in objects.keras2:
        return _inner_layer(value, name, class_name, objects)
    return value


def _plain_value(kind: str, settings: Json) -> Json:
    """Convert Keras 3's notation for values that JSON has no form for."""
    if kind == "__lambda__":
        code = [settings[key] for key in ("code", "defaults", "closure")]
        return {"class_name": kind, "config": {"value": code}}
    return settings["value"]


def _inner_layer(entry: Mapping[str, Any], name: str, class_name: str, objects: Objects) -> dict[str, Any]:
    inner = translate_layer(entry, objects)
    if inner.then is not None:
        raise refused(name, class_name, "a layer inside it has an activation that tf_keras does not know")
    settings = {"class_name": entry["class_name"], "config": inner.config, "registered_name": None}
    return {"module": "keras.layers", **settings}


def _dtype(value: Mapping[str, Any], name: str, class_name: str) -> str:
    if value["class_name"] != "DTypePolicy":
        raise refused(name, class_name, f"its weights are quantized ({value['class_name']})")
    return str(value["config"]["name"])


def _initializer(value: Mapping[str, Any], objects: Objects) -> Json:
    """Return an initializer with tf_keras' arguments. Its result is never used: all weights are set afterwards."""
    kind = getattr(import_keras().initializers, value["class_name"], None)
    if kind is None:
        return value if value["class_name"] in objects.keras2 else "zeros"
    accepted = inspect.signature(kind.__init__).parameters
    config = {key: item for key, item in (value["config"] or {}).items() if key in accepted}
    return {**value, "config": config}
