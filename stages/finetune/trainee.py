"""Choose what to train: the model itself, or a copy that computes in 16 bits or runs on several devices.

Weights are float32 in each of them, so trained weights are copied back exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from pipeline.errors import PreconditionError, reason_of
from stages.finetune.config import FinetuneConfig
from stages.keras.layer_patterns import matching
from stages.keras.normal_form import copy_model, put_weights, rebuilt, unbuilt
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasModel

NESTED = ("layer", "forward_layer", "backward_layer", "cell")  # settings of wrappers that hold layers


def strategy_scope(config: FinetuneConfig) -> AbstractContextManager[Any]:
    """Return the scope for making the model and its optimizer. PreconditionError if a device would get no sample."""
    if config.strategy is None:
        return nullcontext()
    strategy = import_tensorflow().distribute.MirroredStrategy()
    if config.batch < strategy.num_replicas_in_sync:
        what = f"a batch of {config.batch} can't be shared among {strategy.num_replicas_in_sync} devices"
        raise PreconditionError(what, where="finetune.batch", hint="make the batch larger")
    scope: AbstractContextManager[Any] = strategy.scope()
    return scope


def trainee_of(model: KerasModel, config: FinetuneConfig) -> KerasModel:
    """Return `model`, or the copy of it that the settings ask for; call it in the strategy's scope."""
    if config.mixed_precision:
        return in_precision(model, precision_policy())
    # A strategy trains variables that were made in its scope only.
    return copy_model(model) if config.strategy else model


def precision_policy() -> str:
    """Return Keras' policy for 16 bits: the type that the hardware computes fast."""
    gpus = import_tensorflow().config.list_physical_devices("GPU")
    return "mixed_float16" if gpus else "mixed_bfloat16"


def needs_scaled_losses(config: FinetuneConfig) -> bool:
    """Return whether gradients are float16, in which the smallest would underflow."""
    return config.mixed_precision and precision_policy() == "mixed_float16"


def in_precision(model: KerasModel, policy: str) -> KerasModel:
    """Copy `model` with layers that compute by a policy, except those that give its outputs.

    PreconditionError if a layer can't, with its message.
    """
    config = unbuilt(model.get_config())
    last = {tensor._keras_history.layer.name for tensor in model.outputs}  # noqa: SLF001 - Keras has no public way
    for layer in config["layers"]:
        # Layers that give outputs stay in float32: 16 bits would round what the loss is computed from.
        if layer["config"].get("name") not in last:
            _set_policy(layer, policy)
    classes = {type(layer).__name__: type(layer) for layer in model.layers}
    try:
        with import_keras().utils.custom_object_scope(classes):
            copy = rebuilt(type(model), config)
        if not copy.built:
            copy.build(model.input_shape)
    except (TypeError, ValueError) as error:
        reason = reason_of(error)
        what, hint = f"the model can't compute in 16 bits: {reason}", "leave mixed_precision out"
        raise PreconditionError(what, where="finetune.mixed_precision", hint=hint) from error
    put_weights(copy, model.get_weights())
    return copy


def _set_policy(layer: dict[str, Any], policy: str) -> None:
    settings = layer["config"]
    # An input keeps its type: Keras' layers cast what they are given to their own.
    if layer["class_name"] == "InputLayer":
        return
    if "dtype" in settings:
        settings["dtype"] = policy
    nested = [*settings.get("layers", ()), *(settings[name] for name in NESTED if isinstance(settings.get(name), dict))]
    for inner in nested:
        _set_policy(inner, policy)


@contextmanager
def frozen(model: KerasModel, patterns: Sequence[str], *, batch_norm: bool) -> Iterator[None]:
    """Freeze inside the layers that `patterns` match, and all batch normalization if requested.

    PreconditionError if a pattern matches no layer, or nothing is left to learn. Afterwards the flags are restored.
    """
    layers = {layer.name: layer for layer in model._flatten_layers(include_self=False)}  # noqa: SLF001 - nested ones too
    names = {name for pattern in patterns for name in matching(pattern, list(layers), "finetune.freeze")}
    if batch_norm:
        names |= {name for name, layer in layers.items() if type(layer).__name__.endswith("BatchNormalization")}
    before = {name: layer.trainable for name, layer in layers.items()}
    try:
        for name in names:
            layers[name].trainable = False
        if not model.trainable_variables:
            what = "all layers are frozen: there is nothing to train"
            raise PreconditionError(what, where="finetune.freeze", hint="name fewer layers, or leave finetune out")
        yield
    finally:
        _set_trainable(layers, before)


def _set_trainable(layers: dict[str, Any], flags: dict[str, bool]) -> None:
    """Outer layers pass their flag on to inner ones, which come later here and so are set last."""
    for name, flag in flags.items():
        if layers[name].trainable != flag:
            layers[name].trainable = flag
