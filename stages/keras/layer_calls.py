"""Record what each layer of a Keras model outputs, in execution order, and which layer reads which.

Layers of nested models are recorded individually. What runs inside a layer (a wrapper's inner one, a recurrent cell) is
not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stages.keras.graph import SingleSource, is_nested, nodes_in_order
from stages.keras.inputs import by_input
from stages.keras.types import KerasModel


@dataclass(frozen=True, slots=True)
class LayerCall:
    """Hold one call of a layer: its outputs as arrays, and the places of the calls whose outputs it reads."""

    layer: str
    outputs: tuple[Any, ...]
    reads: frozenset[int]


def record_layers(model: KerasModel, arrays: Mapping[str, Any]) -> list[LayerCall]:
    """Return all calls of layers while the model runs at inference on `arrays` (N, …) by input name, in order.

    The model is never changed, not even temporarily.
    """
    import tensorflow as tf

    calls: list[LayerCall] = []
    maker: dict[int, int] = {}  # identity of a tensor -> place of the call that made it
    kept: list[Any] = []  # an identity is valid only as long as its tensor lives

    def hear(name: str, arguments: Any, outputs: list[Any]) -> None:
        reads = frozenset(maker[id(t)] for t in tf.nest.flatten(arguments) if id(t) in maker)
        for tensor in outputs:
            if id(tensor) not in maker:  # a layer that passes its input on did not make it
                maker[id(tensor)] = len(calls)
        kept.extend(outputs)
        calls.append(LayerCall(name, tuple(tensor.numpy() for tensor in outputs), reads))

    _run_heard(model, arrays, hear)
    return calls


def first_not_finite(model: KerasModel, arrays: Any, silent: set[str] | None = None) -> str | None:
    """Return the name of the first layer that gives NaN or infinity on `arrays`, one (N, …) or by input name.

    Removes from `silent`, names of layers, those that give anything but zeros.
    """
    import tensorflow as tf

    culprits: list[str] = []

    def hear(name: str, _: Any, outputs: list[Any]) -> None:
        real = [tensor for tensor in outputs if tensor.dtype.is_floating]
        if not culprits and not all(bool(tf.reduce_all(tf.math.is_finite(tensor))) for tensor in real):
            culprits.append(name)
        if silent and name in silent and any(_has_numbers(tensor) for tensor in real):
            silent.remove(name)

    _run_heard(model, arrays, hear)
    return culprits[0] if culprits else None


def _has_numbers(tensor: Any) -> bool:
    """Return whether any value is nonzero; the first sample mostly shows it."""
    import tensorflow as tf

    return any(bool(tf.reduce_any(tf.not_equal(part, 0))) for part in (tensor[:1], tensor))


def layer_names(model: KerasModel) -> list[str]:
    """Return the names of all layers that `record_layers` reports, in the model's order, each once."""
    return list(dict.fromkeys(layer.name for layer in _layers(model)))


def _run_heard(model: KerasModel, arrays: Any, hear: Callable[[str, Any, list[Any]], None]) -> None:
    """Run at inference; `hear` gets the name of each layer, its inputs, and the tensors that it made.

    The graph is walked as Keras itself walks it, and nothing is attached to any layer: TensorFlow operations in a graph
    (TFOpLambda) keep their `call` on the instance, and removing a wrapper would remove that with it.
    """
    import tensorflow as tf

    inputs = [tf.convert_to_tensor(values) for values in by_input(arrays, model.input_names)]
    if is_nested(model):
        _walk(model, inputs, hear, training=False)
    else:  # a call that the user wrote: nobody can tell what runs inside it
        arguments = inputs if len(inputs) > 1 else inputs[0]
        _tell(model.name, arguments, model(arguments, training=False), hear)


def _walk(model: KerasModel, arguments: Any, hear: Callable[[str, Any, list[Any]], None], training: bool | None) -> Any:
    """Return the outputs of a model with a graph, in its structure; layers that take `training` get it from here."""
    import tensorflow as tf

    inputs = model._flatten_to_reference_inputs(arguments)  # noqa: SLF001 - Keras' own pairing of tensors with inputs
    now = {
        str(id(own)): SingleSource(model._conform_to_reference_input(value, ref_input=own))  # noqa: SLF001
        for own, value in zip(model.inputs, inputs, strict=True)
    }
    for node in nodes_in_order(model):
        # As Keras does (`_run_internal_graph`): a node that can't be computed from these inputs is skipped.
        if node.is_input or any(key not in now for key in node.flat_input_ids):
            continue
        args, kwargs = node.map_arguments(now)
        inner = training if kwargs.get("training") is None else kwargs["training"]
        if is_nested(node.layer):
            result = _walk(node.layer, args[0] if args else kwargs["inputs"], hear, inner)
        else:
            takes_it = node.layer._expects_training_arg  # noqa: SLF001 - Keras' own way to know
            result = node.layer(*args, **(kwargs | {"training": inner} if takes_it else kwargs))
            _tell(node.layer.name, (args, kwargs), result, hear)
        for key, tensor in zip(node.flat_output_ids, tf.nest.flatten(result), strict=True):
            now[key] = SingleSource(tensor)
    outputs = [now[str(id(tensor))].tensor for tensor in model.outputs]
    return tf.nest.pack_sequence_as(model._nested_outputs, outputs)  # noqa: SLF001 - their user's structure


def _tell(name: str, arguments: Any, result: Any, hear: Callable[[str, Any, list[Any]], None]) -> None:
    import tensorflow as tf

    outputs = [
        tensor for tensor in tf.nest.flatten(result) if isinstance(tensor, tf.Tensor) and hasattr(tensor, "numpy")
    ]
    if outputs:
        hear(name, arguments, outputs)


def _layers(model: KerasModel) -> Iterator[Any]:
    for layer in model.layers:
        if is_nested(layer):
            yield from _layers(layer)
        else:
            yield layer
