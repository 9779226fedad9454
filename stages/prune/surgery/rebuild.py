"""Call new layers without tracing them.

When Keras builds a functional model it runs each layer's `call` once in a scratch graph, to learn the shape of its
output, and draws random weights that surgery then replaces: four fifths of the time that surgery takes. For Keras' own
layers whose `compute_output_shape` gives the output shape, both can be left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import PostconditionError
from stages.keras.layer_kinds import kind_of
from stages.keras.layer_work import of_keras
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasLayer


def spare_tracing(layer: KerasLayer, weights: Sequence[Any]) -> bool:
    """Prepare an unbuilt layer to be called by shape alone and built with `weights`; returns whether it can be."""
    plain = kind_of(layer).by_shape and of_keras(layer)
    if not plain or layer.dtype_policy.name != "float32" or getattr(layer, "activity_regularizer", None) is not None:
        return False
    traced = layer._infer_output_signature  # noqa: SLF001 - the one place where Keras traces

    def by_shape(inputs: Any, args: Any, kwargs: Any, masks: Any) -> Any:
        tf, flatten = import_tensorflow(), import_tensorflow().nest.flatten
        if any(mask is not None for mask in flatten(masks)):
            return traced(inputs, args, kwargs, masks)  # a mask is made by tracing only
        with import_keras().backend.name_scope(layer._name_scope()):  # noqa: SLF001 - weights' names begin with it
            layer._maybe_build(inputs)  # noqa: SLF001 - as Keras does in the scratch graph
        shape = layer.compute_output_shape(tf.nest.map_structure(lambda tensor: tensor.shape, inputs))
        return _keras_tensor(tf.TensorSpec(shape, layer.compute_dtype), layer.name)

    layer._infer_output_signature = by_shape  # noqa: SLF001 - for this layer alone
    layer.add_weight = _with_values(layer, weights)
    return True


def trace_again(layer: KerasLayer) -> None:
    """Restore a built layer to Keras' own behavior."""
    del layer._infer_output_signature, layer.add_weight  # noqa: SLF001 - what `spare_tracing` put there


def _with_values(layer: KerasLayer, weights: Sequence[Any]) -> Any:
    """Return an `add_weight` that takes its values from `weights` (tensors), one after the other."""
    values, add_weight = iter(weights), layer.add_weight

    def add_with_value(name: str | None = None, shape: Any = None, **settings: Any) -> Any:
        value = next(values, None)
        if value is None or tuple(shape or ()) != tuple(value.shape):
            raise PostconditionError(
                f"the rule for {type(layer).__name__} slices weights in another way than it shrinks the layer: {name} "
                f"is to be {tuple(shape or ())}, and is {None if value is None else tuple(value.shape)}",
                where=layer.name,
                hint="correct the layer's rule, or exclude the layer",
            )
        return add_weight(name, shape, **{**settings, "initializer": _Values(value)})

    return add_with_value


class _Values:
    """Initialize with a given value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self, shape: Any, **_: Any) -> Any:
        return self._value


def _keras_tensor(spec: Any, name: str) -> Any:
    from tf_keras.src.engine.keras_tensor import KerasTensor

    return KerasTensor(spec, name=name)
