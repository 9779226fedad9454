"""Convert half-precision models to float32: mixed precision is a way of training; files compute in float32.

The weights of such a model are float32 already. Export, comparison with files and metrics use the same model under the
policy float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.contracts.stage import StageContext
from pipeline.errors import ModelError
from stages.keras.free_sizes import like
from stages.keras.normal_form import (
    MODEL_FILE,
    objects_in,
    put_weights,
    random_inputs,
    rebuilt,
    relative_difference,
    unbuilt,
)
from stages.keras.stored import reference_model, shared_model, untouched_model
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasModel

HALF = frozenset({"float16", "bfloat16", "mixed_float16", "mixed_bfloat16"})
ROUNDINGS = 32  # how many of them may accumulate through a network
ROUNDING = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # relative, of one number


class LastInFloat32:
    """Hold the float32 copy of the half-precision model that a run asked for last, by its reader and its digest."""

    def __init__(self) -> None:
        self.key: tuple[str, str] | None = None
        self.model: KerasModel = None


def half_precision_of(model: KerasModel) -> str | None:
    """Return float16 or bfloat16 if some layers of `model` compute in it."""
    kinds = {layer.dtype_policy.name for layer in model._flatten_layers()} & HALF  # noqa: SLF001 - nested ones too
    if not kinds:
        return None
    return "bfloat16" if any("bfloat16" in kind for kind in kinds) else "float16"


def in_float32(model: KerasModel) -> KerasModel:
    """Return `model`, or a copy that computes in float32 if it computes in half precision."""
    if half_precision_of(model) is None:
        return model
    kinds = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}  # noqa: SLF001 - registered nowhere
    with import_keras().utils.custom_object_scope(objects_in(" ".join(kinds)) | kinds):
        copy = rebuilt(type(model), _without_half(unbuilt(model.get_config())))
    if not copy.built:
        copy.build(model.input_shape)
    put_weights(copy, model.get_weights())
    return like(copy, model)


def shared_in_float32(context: StageContext[Any], input_name: str) -> KerasModel:
    """Return `shared_model`, computing in float32; don't change it either.

    ModelError if it does not compute the same, within half precision's rounding.
    """
    return _computing_in_float32(shared_model, context, input_name)


def reference_in_float32(context: StageContext[Any], input_name: str) -> KerasModel:
    """Return `reference_model`, computing in float32; errors as above."""
    return _computing_in_float32(reference_model, context, input_name)


def untouched_in_float32(context: StageContext[Any], input_name: str) -> KerasModel:
    """Return `untouched_model`, computing in float32; errors as above."""
    return _computing_in_float32(untouched_model, context, input_name)


def _computing_in_float32(read: Callable[..., Any], context: StageContext[Any], input_name: str) -> KerasModel:
    model = read(context, input_name)
    half = half_precision_of(model)
    if half is None:
        return model
    # By its reader as well: a copy of the shared model must not stand in for one of the reference, or a fault would be
    # in both.
    key = (read.__name__, context.inputs[input_name].file(MODEL_FILE).digest)
    last = context.shared.of(LastInFloat32)
    if last.key != key:
        copy = in_float32(model)
        _require_same(model, copy, ROUNDINGS * ROUNDING[half], input_name)
        last.key, last.model = key, copy
    return last.model


def _require_same(model: KerasModel, copy: KerasModel, allowed: float, where: str) -> None:
    import numpy as np

    inputs = random_inputs(copy)
    wanted, actual = (
        [np.asarray(output, np.float32) for output in (outputs if isinstance(outputs, list | tuple) else [outputs])]
        for outputs in (model(inputs, training=False), copy(inputs, training=False))
    )
    # Beyond float16's range there is nothing to compare: float32 has the intended number.
    pairs = [(left, right) for left, right in zip(wanted, actual, strict=True) if np.isfinite(left).all()]
    if not pairs:
        return
    difference = relative_difference(*zip(*pairs, strict=True))
    # Not `>`: NaN has to fail.
    if not difference <= allowed:
        raise ModelError(
            f"in float32 the model computes something else than in half precision: {difference:.1e} (relative), "
            f"rounding explains {allowed:.0e}",
            where=where,
            hint="look for layers that are told a type of their own, such as tf.cast to float16",
        )


def _without_half(value: Any) -> Any:
    """Return a configuration in which each policy or type of half precision is float32."""
    if isinstance(value, dict):
        if value.get("class_name") == "Policy" and value["config"]["name"] in HALF:
            return "float32"
        return {key: _without_half(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_half(item) for item in value)
    return "float32" if isinstance(value, str) and value in HALF else value
