"""Map Keras 3 operations between layers (`x + 3`, `keras.ops.mean`) to the TensorFlow calls that tf_keras records."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasTensor
from stages.load.slices import spelled_out

Operation = Callable[[Mapping[str, Any], tuple[Any, ...]], KerasTensor]  # of the operation's settings and its arguments


def _nn(name: str) -> Callable[[KerasTensor], KerasTensor]:
    def call(x: KerasTensor) -> KerasTensor:  # TensorFlow is imported by the first call
        return getattr(import_tensorflow().nn, name)(x)

    return call


def _hard_sigmoid(x: KerasTensor) -> KerasTensor:
    # tf_keras' function of this name is another one: clip(0.2 x + 0.5, 0, 1).
    return import_tensorflow().nn.relu6(x + 3.0) * (1.0 / 6.0)


ACTIVATIONS: Mapping[str, Callable[[KerasTensor], KerasTensor]] = {
    "relu6": _nn("relu6"),
    "log_softmax": _nn("log_softmax"),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": lambda x: x * _hard_sigmoid(x),
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "hard_tanh": lambda x: import_tensorflow().clip_by_value(x, -1.0, 1.0),
    "log_sigmoid": lambda x: -import_tensorflow().nn.softplus(-x),
    "leaky_relu": lambda x: import_tensorflow().nn.leaky_relu(x, alpha=0.2),
}


def _plain(function: Callable[..., Any]) -> Operation:
    return lambda _, arguments: function(*arguments)


def _tf(path: str, **renamed: str) -> Operation:
    """Return a TensorFlow function, called with the operation's settings under TensorFlow's names."""

    def call(settings: Mapping[str, Any], arguments: tuple[Any, ...]) -> KerasTensor:
        function = operator.attrgetter(path)(import_tensorflow())
        return function(*arguments, **{target: settings[key] for key, target in renamed.items()})

    return call


def _reduction(path: str) -> Operation:
    return _tf(path, axis="axis", keepdims="keepdims")


def _getitem(_: Mapping[str, Any], arguments: tuple[Any, ...]) -> KerasTensor:
    x, key = arguments
    key = spelled_out(key, len(x.shape), slice(None))
    return x[tuple(key) if isinstance(key, list) else key]


def _gelu(settings: Mapping[str, Any], arguments: tuple[Any, ...]) -> KerasTensor:
    # Keras 3's default; TensorFlow's own is the exact one.
    return import_tensorflow().nn.gelu(*arguments, approximate=settings.get("approximate", True))


def _split(settings: Mapping[str, Any], arguments: tuple[Any, ...]) -> KerasTensor:
    return import_tensorflow().split(*arguments, settings["indices_or_sections"], axis=settings["axis"])


def _extreme(path: str) -> Operation:
    """Treat the first of -0.0 and 0.0 as the extreme, as everywhere but in Keras 3."""

    def call(settings: Mapping[str, Any], arguments: tuple[Any, ...]) -> KerasTensor:
        tf = import_tensorflow()
        (x,), axis, kept = arguments, settings["axis"], settings.get("keepdims")
        rank = len(x.shape)
        flat = tf.reshape(x, [-1]) if axis is None else x
        indices = operator.attrgetter(path)(tf)(flat, axis=0 if axis is None else axis, output_type="int32")
        if not kept:
            return indices
        return tf.reshape(indices, [1] * rank) if axis is None else tf.expand_dims(indices, axis)

    return call


def _any(settings: Mapping[str, Any], arguments: tuple[Any, ...]) -> KerasTensor:
    kept = {"keepdims": True} if settings.get("keepdims") else {}
    return import_tensorflow().reduce_any(*arguments, axis=settings["axis"], **kept)


def _normalize(settings: Mapping[str, Any], arguments: tuple[Any, ...]) -> KerasTensor:
    """Normalize, of order 2 only. Keras 3 clips 1/√0, for which XNNPACK has no number: the sum is kept off 0."""
    if settings.get("order", 2) != 2:
        raise ValueError("another order than 2")
    epsilon = settings.get("epsilon") or 1e-7
    return import_tensorflow().math.l2_normalize(*arguments, axis=settings.get("axis", -1), epsilon=epsilon**2)


OPERATIONS: Mapping[str, Operation] = {
    "Add": _plain(operator.add),
    "Subtract": _plain(operator.sub),
    "Multiply": _plain(operator.mul),
    "Divide": _plain(operator.truediv),
    "TrueDivide": _plain(operator.truediv),
    "Negative": _plain(operator.neg),
    "Power": _tf("pow"),
    "Maximum": _tf("maximum"),
    "Minimum": _tf("minimum"),
    "Matmul": _tf("matmul"),
    "Mean": _reduction("reduce_mean"),
    "Sum": _reduction("reduce_sum"),
    "Max": _reduction("reduce_max"),
    "Min": _reduction("reduce_min"),
    "Reshape": _tf("reshape", newshape="shape"),
    "Transpose": _tf("transpose", axes="perm"),
    "ExpandDims": _tf("expand_dims", axis="axis"),
    "Squeeze": _tf("squeeze", axis="axis"),
    "Concatenate": _tf("concat", axis="axis"),
    "Stack": _tf("stack", axis="axis"),
    "Cast": _tf("cast", dtype="dtype"),
    "Clip": _tf("clip_by_value", x_min="clip_value_min", x_max="clip_value_max"),
    "Softmax": _tf("nn.softmax", axis="axis"),
    "LogSoftmax": _tf("nn.log_softmax", axis="axis"),
    "LeakyRelu": _tf("nn.leaky_relu", negative_slope="alpha"),
    "Gelu": _gelu,
    "GetItem": _getitem,
    "Split": _split,
    **{
        name: _tf(f"math.{name.lower()}")
        for name in ("Square", "Sqrt", "Rsqrt", "Exp", "Log", "Log1p", "Tanh", "Sigmoid")
    },
    **{name: _tf(f"nn.{name.lower()}") for name in ("Relu", "Relu6", "Softplus", "Softsign", "Selu", "Elu")},
    **{name: _tf("math.abs") for name in ("Abs", "Absolute")},
    "Silu": _tf("nn.silu"),
    "HardSigmoid": _plain(_hard_sigmoid),
    "HardSilu": _plain(ACTIVATIONS["hard_silu"]),
    "HardSwish": _plain(ACTIVATIONS["hard_silu"]),
    "LogSigmoid": _plain(ACTIVATIONS["log_sigmoid"]),
    "Identity": _tf("identity"),
    "Normalize": _normalize,
    "NotEqual": _tf("not_equal"),
    "Any": _any,
    "Argmax": _extreme("argmax"),
    "Argmin": _extreme("argmin"),
}
