"""What each layer of a Keras model gives out, in the order in which layers run, and which layer reads which.

Layers of nested models are told one by one. What runs inside a layer (a wrapper's inner one, a recurrent cell) is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stages.samples import by_input


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One call of a layer: its outputs as arrays, and the places of the calls whose outputs it reads."""

    layer: str
    outputs: tuple[Any, ...]
    reads: frozenset[int]


def record_layers(model: Any, arrays: Mapping[str, Any]) -> list[LayerCall]:
    """All calls of layers while the model runs at inference on `arrays` (N, …) by input name, in order.

    The model is as before when this comes back.
    """
    import tensorflow as tf

    calls: list[LayerCall] = []
    maker: dict[int, int] = {}  # identity of a tensor -> place of the call that made it
    kept: list[Any] = []  # an identity says something only as long as its tensor lives

    def hear(name: str, given: Any, made: list[Any]) -> None:
        reads = frozenset(maker[id(t)] for t in tf.nest.flatten(given) if id(t) in maker)
        for tensor in made:
            if id(tensor) not in maker:  # a layer that passes its input on did not make it
                maker[id(tensor)] = len(calls)
        kept.extend(made)
        calls.append(LayerCall(name, tuple(tensor.numpy() for tensor in made), reads))

    _run_heard(model, arrays, hear)
    return calls


def first_not_finite(model: Any, arrays: Any) -> str | None:
    """The name of the first layer that gives NaN or infinity on `arrays`, one (N, …) or by input name."""
    import tensorflow as tf

    found: list[str] = []

    def hear(name: str, _: Any, made: list[Any]) -> None:
        real = [tensor for tensor in made if tensor.dtype.is_floating]
        if not found and not all(bool(tf.reduce_all(tf.math.is_finite(tensor))) for tensor in real):
            found.append(name)

    _run_heard(model, arrays, hear)
    return found[0] if found else None


def layer_names(model: Any) -> list[str]:
    """The names of all layers that `record_layers` tells of, in the model's order, each once."""
    return list(dict.fromkeys(layer.name for layer in _layers(model)))


def _run_heard(model: Any, arrays: Any, hear: Callable[[str, Any, list[Any]], None]) -> None:
    """Run at inference; `hear` is told the name of each layer, what it was given, and the tensors that it made."""
    import tensorflow as tf

    def hearing(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def heard(*args: Any, **settings: Any) -> Any:
            result = call(*args, **settings)
            made = [t for t in tf.nest.flatten(result) if isinstance(t, tf.Tensor) and hasattr(t, "numpy")]
            if made:
                hear(name, (args, settings), made)
            return result

        return heard

    layers = list(dict.fromkeys(_layers(model)))
    try:
        for layer in layers:
            layer.call = hearing(layer.name, layer.call)
        inputs = by_input(arrays, model.input_names)
        model(inputs if len(inputs) > 1 else inputs[0], training=False)
    finally:
        for layer in layers:
            layer.__dict__.pop("call", None)


def _layers(model: Any) -> Iterator[Any]:
    from stages.tf_runtime import import_keras

    for layer in model.layers:
        if isinstance(layer, import_keras().Model):
            yield from _layers(layer)
        else:
            yield layer
