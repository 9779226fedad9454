"""Find what in a model's configuration would run code, or access files, when the model is built or called.

A configuration names classes and functions. Keras imports whatever module it names, TFOpLambda calls whatever
TensorFlow function, Lambda layers carry Python code itself. So all names are compared with those known to only compute;
anything else needs the user's consent (`trust: true`, or a class named under `custom_objects`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ModelError
from pipeline.records.values import Json

CODE = {
    "Lambda": "holds Python code, which loading would run",
    "__lambda__": "holds Python code, which loading would run",
    "TensorFlowOpLayer": "holds a TensorFlow operation of any kind",
    "TFSMLayer": "loads a SavedModel from a path in the file",
    "TorchModuleWrapper": "unpickles a PyTorch module, which can run any code",
    "JaxLayer": "holds code of JAX",
    "FlaxLayer": "holds code of Flax",
}
TRUST = "if you know who made the file: `model: {path: …, trust: true}` (inspect: --trust); else replace the layer"
KERAS = r"(tf_)?keras(\.src|\.api|\._tf_keras|\.keras)*"
PARTS = (
    "activations|applications|constraints|dtype_policies|engine|initializers|layers|losses|metrics|mixed_precision|"
    "models|ops|optimizers|quantizers|regularizers"
)
CLASS_MODULE = re.compile(rf"({KERAS}(\.({PARTS})(\.\w+)*)?|builtins|tensorflow_model_optimization(\.\w+)*)")
# tf_keras' own EfficientNetV2 has TensorFlow's constant initializer, and files of it name that. By name, since Keras
# would take anything else that the module happens to hold.
TENSORFLOW_INITIALIZERS = "tensorflow.python.ops.init_ops_v2"
INITIALIZER = re.compile(
    r"Constant|Zeros|Ones|RandomNormal|RandomUniform|TruncatedNormal|VarianceScaling|Orthogonal|Identity|"
    r"(Glorot|He|Lecun)(Normal|Uniform)"
)
FUNCTION_MODULE = re.compile(
    rf"({KERAS}\.(activations|constraints|initializers|losses|metrics|regularizers)(\.\w+)*|builtins)"
)
# Lists of what is allowed: a release of TensorFlow adds functions, and none may pass because nobody knew it.
PARTIAL = frozenset({"math", "nn", "linalg", "image", "signal", "bitwise", "__operators__", "keras.activations"})
PLAIN = re.compile(
    r"abs|acos|add|argmax|argmin|argsort|asin|atan|batch_to_space(_nd)?|bitcast|boolean_mask|"
    r"broadcast_(to|dynamic_shape)|cast|clip_by_value|concat|constant|convert_to_tensor|cos|cumsum|depth_to_space|"
    r"divide|dtypes\.complex|dynamic_stitch|einsum|ensure_shape|equal|exp|expand_dims|eye|fill|floor(_div)?|gather|gather_nd|greater|greater_equal|identity|less|less_equal|linspace|"
    r"logical_and|logical_not|logical_or|matmul|maximum|meshgrid|minimum|multiply|negative|not_equal|one_hot|"
    r"ones|ones_like|pad|pow|range|rank|realdiv|reduce_all|reduce_any|reduce_max|reduce_mean|reduce_min|"
    r"reduce_prod|reduce_sum|repeat|reshape|reverse|roll|round|scatter_nd|searchsorted|sequence_mask|shape(_n)?|sigmoid|sign|"
    r"sin|size|slice|sort|space_to_batch(_nd)?|space_to_depth|split|sqrt|square|squeeze|stack|stop_gradient|"
    r"strided_slice|subtract|tan|tanh|tensor_scatter_nd_(add|max|min|sub|update)|tensordot|tile|transpose|truediv|"
    r"truncatediv|unique(_with_counts)?|unstack|where|zeros|"
    r"zeros_like"
)


@dataclass(frozen=True)
class Named:
    """Hold a dictionary of the configuration that names a class or function, and its layer."""

    settings: Mapping[str, Any]
    layer: str


def refuse_code(config: Json, where: str, custom: frozenset[str] = frozenset()) -> None:
    """Raise ModelError for the first thing in a configuration that could do more than compute.

    `custom` are names of classes and functions that the user has vouched for.
    """
    for named in _named(config):
        reason = _reason(named.settings, custom)
        if reason:
            raise ModelError(f"the layer {named.layer!r} {reason}", where=where, hint=TRUST)


def by_name_alone(config: Json, custom: frozenset[str]) -> Json:
    """Name the user's own classes in the configuration only as in `custom`: no module in the file is imported."""
    if isinstance(config, Mapping):
        settings = {key: by_name_alone(value, custom) for key, value in config.items()}
        if settings.get("class_name") in custom and "registered_name" in settings:
            settings |= {"module": None, "registered_name": settings["class_name"]}
        return settings
    return [by_name_alone(value, custom) for value in config] if isinstance(config, list | tuple) else config


def _named(config: Json, layer: str = "?") -> Iterator[Named]:
    if isinstance(config, Mapping):
        settings = config.get("config")
        inner = settings.get("name", layer) if isinstance(settings, Mapping) else layer
        if "class_name" in config:
            yield Named(config, str(inner))
        for value in config.values():
            yield from _named(value, str(inner))
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _named(value, layer)


def _reason(named: Mapping[str, Any], custom: frozenset[str]) -> str | None:
    name, settings = str(named["class_name"]), named.get("config")
    # Before the user's own names: a class of theirs that is called Lambda vouches for no code in the file.
    if name in CODE:
        return CODE[name]
    function = settings if name == "function" else None
    # Not by `registered_name`: a file could give another class a name that was vouched for.
    if (str(function) if name == "function" else name) in custom:
        return None
    module = named.get("module")
    if name == "__typespec__":
        known = str(module).startswith(("tensorflow.python.framework.", "tensorflow.python.ops.ragged."))
        return None if known else f"names a type of {module}"
    if name == "function":
        if not FUNCTION_MODULE.fullmatch(str(module)) or not str(function).isidentifier():
            return f"names the function {function} of {module}, which is none of Keras' layers' functions"
        return None if module != "builtins" or _is_kerass(str(function)) else f"names Python's function {function}"
    if module == TENSORFLOW_INITIALIZERS and INITIALIZER.fullmatch(name):
        return None
    # tf_keras joins module and name before it looks them up: a name with dots in it would lead into other modules.
    if module is not None and (not CLASS_MODULE.fullmatch(str(module)) or not name.isidentifier()):
        return f"names the class {name} of {module}: if it is yours, name it under custom_objects as module:{name}"
    return _reason_of_settings(name, settings) if isinstance(settings, Mapping) else None


def _is_kerass(function: str) -> bool:
    """Return whether a function without a module is one of Keras' activations, losses and the like."""
    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    homes = (keras.activations, keras.losses, keras.metrics, keras.initializers, keras.regularizers, keras.constraints)
    return any(hasattr(home, function) for home in homes) and not function.startswith("_")


def _reason_of_settings(name: str, settings: Mapping[str, Any]) -> str | None:
    if name in ("TFOpLambda", "SlicingOpLambda") and not _computes_only(str(settings.get("function"))):
        return f"calls the TensorFlow function {settings.get('function')}, which may do more than compute"
    if name == "ClassMethod" and str(settings.get("cls_symbol")) not in ("RaggedTensor", "sparse.SparseTensor"):
        return f"calls a method of {settings.get('cls_symbol')}"
    if name in ("InstanceMethod", "InstanceProperty") and str(settings.get("attr_name")).startswith("_"):
        return f"reads the attribute {settings.get('attr_name')}"
    # A list is the vocabulary itself; a text is a path that Keras reads when it builds the layer.
    for key in ("vocabulary", "idf_weights"):
        if isinstance(settings.get(key), str):
            return f"reads the file {settings[key]!r} of this machine ({key})"
    return None


def _computes_only(symbol: str) -> bool:
    plain = symbol.removeprefix("compat.v1.")
    module, _, name = ("", "", plain) if plain == "dtypes.complex" else plain.rpartition(".")
    if name.startswith("_") and module != "__operators__":
        return False
    return module in PARTIAL or (not module and PLAIN.fullmatch(name) is not None)
