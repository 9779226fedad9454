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

    @property
    def finite(self) -> bool:
        """Whether all that the layer gave out are finite numbers."""
        import numpy as np

        return all(np.isfinite(values).all() for values in self.outputs)


def record_layers(model: Any, arrays: Mapping[str, Any]) -> list[LayerCall]:
    """All calls of layers while the model runs at inference on `arrays` (N, …) by input name, in order.

    The model is as before when this comes back.
    """
    import tensorflow as tf

    calls: list[LayerCall] = []
    maker: dict[int, int] = {}  # identity of a tensor -> place of the call that made it
    kept: list[Any] = []  # an identity says something only as long as its tensor lives

    def recording(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **settings: Any) -> Any:
            result = call(*args, **settings)
            reads = frozenset(maker[id(t)] for t in tf.nest.flatten((args, settings)) if id(t) in maker)
            made = [t for t in tf.nest.flatten(result) if isinstance(t, tf.Tensor) and hasattr(t, "numpy")]
            for tensor in made:
                if id(tensor) not in maker:  # a layer that passes its input on did not make it
                    maker[id(tensor)] = len(calls)
            kept.extend(made)
            if made:
                calls.append(LayerCall(name, tuple(tensor.numpy() for tensor in made), reads))
            return result

        return recorded

    layers = list(dict.fromkeys(_layers(model)))
    try:
        for layer in layers:
            layer.call = recording(layer.name, layer.call)
        inputs = by_input(arrays, model.input_names)
        model(inputs if len(inputs) > 1 else inputs[0], training=False)
    finally:
        for layer in layers:
            layer.__dict__.pop("call", None)
    return calls


def _layers(model: Any) -> Iterator[Any]:
    from stages.tf_runtime import import_keras

    for layer in model.layers:
        if isinstance(layer, import_keras().Model):
            yield from _layers(layer)
        else:
            yield layer
