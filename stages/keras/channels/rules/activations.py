"""Know which activation functions treat each channel alone."""

from __future__ import annotations

from typing import Any

from stages.keras.channels.labels import Call, CannotFollowError, Labels
from stages.keras.tensorflow import import_keras, import_tensorflow

ELEMENTWISE = frozenset({"linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "mish"}) | {
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "exponential",
    "softplus",
    "softsign",
}
NORMALIZING = frozenset({"softmax", "log_softmax"})  # along the last axis


def check_elementwise(function: Any, labels: Labels, rank: int) -> None:
    """Raise CannotFollowError unless `function`, on a tensor of this rank, treats each channel alone."""
    name = getattr(function, "__name__", type(function).__name__)
    if function is None or (name in ELEMENTWISE and _is_known(name, function)):
        return
    if name in NORMALIZING and _is_known(name, function):
        if labels.axis == rank - 1:
            raise CannotFollowError(f"{name} across channels")
        return
    raise CannotFollowError(f"unknown activation {name}")


def activated(call: Call, labels: Labels) -> Labels:
    """Return a layer's output after its own `activation`; its channels are frozen if that is not elementwise."""
    try:
        check_elementwise(call.layer.activation, labels, len(call.output_shapes[0]))
    except CannotFollowError as error:
        call.freeze(labels.ids, str(error))
    return labels


def _is_known(name: str, function: Any) -> bool:
    """Return whether it is Keras' or TensorFlow's function of that name, not a user's of the same name."""
    homes = (import_keras().activations, import_tensorflow().nn)
    return any(getattr(home, name, None) is function for home in homes)
