"""TensorFlow operations called on symbolic tensors (Keras wraps each in a TFOpLambda), where they are element-wise."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.prune.labels import Call, CannotFollowError, Flow
from stages.prune.rules.merging import merge
from stages.prune.rules.table import rule

BINARY = frozenset({"add", "subtract", "multiply", "divide", "truediv", "maximum", "minimum"})
UNARY = frozenset(
    {"abs", "exp", "identity", "negative", "relu", "relu6", "sigmoid", "silu", "softplus", "square", "tanh"}
)
MODULES = frozenset({"", "math", "nn", "__operators__"})


@rule("TFOpLambda")
def operation(call: Call) -> Flow:
    """Arithmetic of tensors with each other or with single numbers, and functions of one tensor."""
    module, _, name = call.layer.symbol.rpartition(".")
    if module not in MODULES or name not in BINARY | UNARY:
        raise CannotFollowError(f"unknown operation {call.layer.symbol}")
    args, kwargs = call.arguments
    if not all(_is_tensor_or_number(value) for value in (*args, *kwargs.values())):
        raise CannotFollowError(f"{call.layer.symbol} with a constant for each channel")
    return merge(call) if name in BINARY and len(call.inputs) > 1 else Flow((call.only(),))


def _is_tensor_or_number(value: Any) -> bool:
    """Whether this argument is a symbolic tensor, or one number for all channels (or a name, or None)."""
    return hasattr(value, "_keras_history") or np.ndim(value) == 0
