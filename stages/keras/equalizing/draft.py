"""Hold changes of a network's layers until a model is built of them: weights in float64, and layers that are replaced.

Kernels are seen by channel: the first kernel of a layer reads input channels, the last one makes output channels (they
are one, but for separable convolutions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.free_sizes import like
from stages.keras.graph import user_classes
from stages.keras.layer_kinds import kind_of
from stages.keras.layer_work import of_keras
from stages.keras.normal_form import put_weights, rebuilt, unbuilt
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel, TfVariable

Array = NDArray[np.float64]


def has_channels(layer: KerasLayer) -> bool:
    """Return whether `layer` is one of Keras' own whose kernels and bias can take factors and offsets of channels."""
    kind = kind_of(layer)
    if not (kind.absorbs and of_keras(layer)) or getattr(layer, "data_format", None) == "channels_first":
        return False
    grouped = getattr(layer, "groups", 1) != 1
    return bool(layer.compute_dtype == "float32" and not (grouped and "Transpose" in type(layer).__name__))


def _values(variable: TfVariable) -> Array:
    return np.asarray(variable.numpy(), np.float64)


@dataclass(slots=True)
class Kernels:
    """Hold the kernels and the bias of a layer; `biased` if the layer has one, or must have one from now on."""

    layer: KerasLayer
    values: dict[str, Array] = field(init=False)
    bias: Array = field(init=False)
    biased: bool = field(init=False)

    def __post_init__(self) -> None:
        kernels = kind_of(self.layer).kernels
        self.values = {kernel.weight: _values(getattr(self.layer, kernel.weight)) for kernel in kernels}
        self.biased = bool(self.layer.use_bias)
        outputs = prod(self._last.shape[axis] for axis in kernels[-1].outputs)
        self.bias = _values(self.layer.bias) if self.biased else np.zeros(outputs)

    @property
    def _last(self) -> Array:
        return self.values[kind_of(self.layer).kernels[-1].weight]

    @property
    def by_channel(self) -> bool:
        """Return whether an output channel has one input channel: then a factor of it costs no precision."""
        return len(kind_of(self.layer).kernels[0].outputs) == 2

    @property
    def gains(self) -> Array:
        """Return (I,): the sum of squares of the weights that read each input channel."""
        gains: Array = np.square(self._by_input).sum(axis=(0, 2))
        return gains

    @property
    def peaks(self) -> Array:
        """Return (I, O): the largest weight, by size, that reads an input channel for an output channel."""
        largest: Array = np.abs(self._by_input).max(axis=0)
        if self._groups == 1:
            return largest
        spread = np.zeros((self._groups, len(largest) // self._groups, self._groups, largest.shape[1]))
        for group, part in enumerate(np.split(largest, self._groups)):
            spread[group, :, group] = part
        return spread.reshape(len(largest), -1)

    @property
    def taps(self) -> int:
        """Return at how many places of the input an output reads."""
        return len(self._by_input)

    def scale_outputs(self, factor: Array) -> None:
        """Multiply the layer's outputs (O,) before the activation."""
        kernel = kind_of(self.layer).kernels[-1]
        last = self.values[kernel.weight]
        shape = [1] * last.ndim
        for axis in kernel.outputs:
            shape[axis] = last.shape[axis]
        self.values[kernel.weight] = last * factor.reshape(shape)
        self.bias = self.bias * factor

    def scale_inputs(self, factor: Array) -> None:
        """Multiply what the layer reads, (I,)."""
        kernel = kind_of(self.layer).kernels[0]
        first = self.values[kernel.weight]
        assert kernel.inputs is not None
        if self._groups == 1:
            shape = [1] * first.ndim
            shape[kernel.inputs] = first.shape[kernel.inputs]
            self.values[kernel.weight] = first * factor.reshape(shape)
        else:  # each group of outputs reads inputs of its own
            own = np.repeat(factor.reshape(self._groups, -1), first.shape[-1] // self._groups, axis=0)
            self.values[kernel.weight] = first * own.T

    def shift_inputs(self, offset: Array) -> None:
        """Add to what the layer reads, (I,), at every position that it reads: the bias takes it over."""
        by_group = offset.reshape(self._groups, -1, 1)
        moved = (self._by_input.sum(axis=0).reshape(*by_group.shape[:2], -1) * by_group).sum(axis=1).reshape(-1)
        if self.by_channel:
            moved = (self._by_input.sum(axis=0) * offset[:, None]).reshape(-1)
        if kind_of(self.layer).separable:
            moved = moved @ self._last.reshape(-1, self._last.shape[-1])
        self.shift_outputs(moved)

    @property
    def _groups(self) -> int:
        return int(getattr(self.layer, "groups", 1)) if not self.by_channel else 1

    @property
    def _by_input(self) -> Array:
        """Return the first kernel as (taps, inputs, outputs of each)."""
        kernel = kind_of(self.layer).kernels[0]
        by_tap = self.values[kernel.weight].reshape(-1, *self.values[kernel.weight].shape[-2:])
        if kernel.inputs == -1 and not self.by_channel:
            return by_tap.swapaxes(1, 2)
        if self._groups == 1:
            return by_tap
        taps, own, outputs = by_tap.shape
        parts = by_tap.reshape(taps, own, self._groups, outputs // self._groups)
        return np.moveaxis(parts, 2, 1).reshape(taps, self._groups * own, -1)

    def shift_outputs(self, offset: Array) -> None:
        """Add to the layer's outputs (O,) before the activation."""
        self.bias = self.bias + offset
        self.biased = self.biased or bool(offset.any())

    def weights(self) -> list[Array]:
        return [*self.values.values(), *([self.bias] if self.biased else [])]


@dataclass(frozen=True, slots=True)
class Replacement:
    """Hold a layer that is not built, and the weights that it will have."""

    layer: KerasLayer
    weights: tuple[Array, ...] = ()


def identity(layer: KerasLayer) -> Replacement:
    """Return what stands for a layer that does nothing any more, under its name."""
    return Replacement(import_keras().layers.Activation("linear", name=layer.name, dtype=layer.dtype_policy))


@dataclass(slots=True)
class Draft:
    """Collect changes of the layers of `model`, which has no model nested in it.

    It stays as it is, unless it is the caller's `own`: then it takes changes that need no other layers.
    """

    model: KerasModel
    own: bool = False
    kernels: dict[str, Kernels] = field(default_factory=dict)
    replaced: dict[str, Replacement] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # of layers that stay

    def of(self, name: str) -> Kernels:
        """Return the kernels of a layer as they are by now, to be changed."""
        return self.kernels.setdefault(name, self.seen(name))

    def seen(self, name: str) -> Kernels:
        """Return the kernels of a layer as they are by now, to be looked at."""
        return self.kernels[name] if name in self.kernels else Kernels(self.model.get_layer(name))

    def built(self) -> Any:
        """Return the model with the changes; `model` itself if there are none, or if it could take them."""
        if not (self.kernels or self.replaced or self.settings):
            return self.model
        if self.own and not self._needs_layers():
            self._put()
            return self.model
        config = self.model.get_config()
        entries = [self._entry(entry) for entry in config["layers"]]
        with import_keras().utils.custom_object_scope(user_classes(self.model)):
            fresh = rebuilt(type(self.model), unbuilt({**config, "layers": entries}))
        old = {layer.name: layer for layer in self.model.layers}
        for layer in fresh.layers:
            if layer.weights:
                put_weights(layer, self._weights(layer, old[layer.name]))
        return like(fresh, self.model)

    def _needs_layers(self) -> bool:
        return bool(self.replaced) or any(own.biased and not own.layer.use_bias for own in self.kernels.values())

    def _put(self) -> None:
        for name, settings in self.settings.items():
            layer = self.model.get_layer(name)
            for setting, value in settings.items():
                setattr(layer, setting, import_keras().activations.get(value) if setting == "activation" else value)
        for name in self.kernels:
            layer = self.model.get_layer(name)
            put_weights(layer, self._weights(layer, layer))

    def _weights(self, layer: KerasLayer, old: KerasLayer) -> list[Any]:
        if layer.name in self.replaced:
            weights: Sequence[Array] = self.replaced[layer.name].weights
        elif layer.name in self.kernels:
            weights = self.kernels[layer.name].weights()
        else:
            return list(old.get_weights())
        return [array.reshape(own.shape).astype(np.float32) for array, own in zip(weights, layer.weights, strict=True)]

    def _entry(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        name = entry["config"]["name"]
        if name in self.replaced:
            layer = self.replaced[name].layer
            kind = {"module": "keras.layers", "class_name": type(layer).__name__, "registered_name": None}
            return {**entry, **kind, "config": layer.get_config()}
        biased = {"use_bias": True} if name in self.kernels and self.kernels[name].biased else {}
        return {**entry, "config": {**entry["config"], **self.settings.get(name, {}), **biased}}
