"""Trace Keras 3 calls without a tf_keras layer: what they compute at inference, as TensorFlow operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.errors import reason_of
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasLayer, KerasTensor, KerasValue, TfTensor, TfVariable
from stages.load.compositions import UntraceableError
from stages.load.keras3_layers import UntranslatableError
from stages.load.keras3_translation import Translation
from stages.load.traced import traced


def trace_call(
    original: KerasLayer,
    args: tuple[KerasValue, ...],
    kwargs: dict[str, KerasValue],
    error: UntranslatableError,
    made: dict[str, Any],
    translation: Translation,
) -> list[KerasTensor]:
    """Return the tensors that one call gives; `error` says why there is no layer for it.

    Raises:
        UntranslatableError: the operations that Keras 3 makes of it can't be stored in a model.
    """
    is_layer = hasattr(original, "_flatten_layers")
    if is_layer and any(getattr(part, "quantization_mode", None) for part in original._flatten_layers()):  # noqa: SLF001
        raise error
    keywords = {key: value for key, value in kwargs.items() if value is not None and key != "training"}
    call = _at_inference(original) if is_layer else original
    try:
        outputs = traced(call, (args, keywords), _holder(original, made) if is_layer else _nothing_held)
    except Exception as cause:  # Keras and TensorFlow may raise anything
        what = str(cause) if isinstance(cause, UntraceableError) else reason_of(cause)
        raise UntranslatableError(f"{error.what}, and {what}", where=error.where, hint=error.hint) from cause
    if is_layer:
        translation.traced[id(original)] = original
        if len(outputs) == 1 and any(outputs[0] is argument for argument in args):
            translation.left_out.add(id(original))
            return [import_keras().layers.Activation("linear", name=original.name)(outputs[0])]
    return outputs


def _at_inference(layer: KerasLayer) -> Callable[..., Any]:
    def call(*args: TfTensor, **kwargs: TfTensor) -> TfTensor:
        settings = {"training": False} if "training" in layer._call_signature.parameters else {}  # noqa: SLF001
        return layer(*args, **kwargs, **settings)

    return call


def _nothing_held(_: TfTensor, __: KerasTensor) -> KerasTensor:
    raise UntraceableError("it has variables")


def _holder(original: KerasLayer, made: dict[str, Any]) -> Callable[[TfTensor, KerasTensor], KerasTensor]:
    """Return a function from a variable to a tensor: an Embedding of one row holds its values, trainable."""
    known = {id(weight._value.handle): weight for weight in original.weights}  # noqa: SLF001
    layers = made.setdefault(f"{original.name} held", {})

    def hold(handle: TfTensor, anchor: KerasTensor) -> KerasTensor:
        tf, weight = import_tensorflow(), known[id(handle)]
        # An index made of an input: a graph in tf_keras has to begin at its inputs.
        nothing = tf.zeros_like(tf.shape(anchor)[:1])
        if weight.path not in layers:
            layers[weight.path] = _embedding(original.name, weight)
        row = layers[weight.path](nothing)
        value = weight.numpy().reshape(1, -1)
        layers[weight.path].set_weights([value])
        return tf.reshape(row, list(weight.shape))

    return hold


def _embedding(name: str, weight: TfVariable) -> KerasLayer:
    size = int(weight.numpy().size)
    path = "_".join(weight.path.split("/")[1:])
    return import_keras().layers.Embedding(
        1, size, name=f"{name}_{path}", dtype=weight.dtype, trainable=bool(weight.trainable)
    )
