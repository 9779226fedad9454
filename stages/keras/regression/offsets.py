"""Find where a fitted layer's offset can go: into its bias, or into the beta of the batch normalization that follows.

A constant added to a channel before a batch normalization adds gamma/sigma times as much after it. Its moving mean
could take the constant as well, but the next training step or recalibration would replace it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.keras.layer_kinds import kind_of
from stages.keras.regression.running import Network
from stages.keras.types import KerasLayer, KerasTensor, TfVariable

# Adding a constant to a channel before these is adding it after them: padding never enters their results.
PASSING = frozenset(
    {f"{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3)}
    | {f"{kind}{rank}D" for kind in ("UpSampling", "Cropping", "SpatialDropout") for rank in (1, 2, 3)}
    | {"Dropout", "GaussianNoise", "GaussianDropout"}
)


@dataclass(frozen=True, slots=True)
class Offset:
    """Add constants to the channels that `layer` makes, through its bias or a later `normalization`."""

    layer: KerasLayer
    normalization: KerasLayer | None = None

    def add(self, offset: NDArray[np.float64]) -> None:
        """Add one number to each output channel, before the layer's activation."""
        norm = self.normalization
        if norm is None:
            self.layer.bias.assign(self.layer.bias.numpy().astype(np.float64) + offset)
            return
        gamma = norm.gamma.numpy().astype(np.float64) if norm.scale else 1.0
        slope = gamma / np.sqrt(norm.moving_variance.numpy().astype(np.float64) + norm.epsilon)
        norm.beta.assign(norm.beta.numpy().astype(np.float64) + slope * offset)

    @property
    def variable(self) -> TfVariable:
        """Return the variable that takes the offset."""
        return self.layer.bias if self.normalization is None else self.normalization.beta


def offset_of(network: Network, layer: KerasLayer) -> Offset | None:
    """Return where the layer's offset can go; None if nothing takes one, or only what a constraint binds."""
    if getattr(layer, "bias", None) is not None:
        return Offset(layer) if layer.bias.constraint is None else None
    if getattr(getattr(layer, "activation", None), "__name__", "linear") != "linear":
        return None
    place = _only([place for place, call in enumerate(network.calls) if call.layer == layer.name])
    while place is not None:
        place = _reader(network, network.calls[place].makes)
        if place is None:
            return None
        following = network.nodes[place].layer
        if kind_of(following).folds:
            alone = sum(call.layer == following.name for call in network.calls) == 1
            along = list(following.axis) == [_channel_axis(layer, network.nodes[place].keras_inputs[0])]
            free = following.center and following.beta.constraint is None
            return Offset(layer, following) if alone and along and free else None
        if type(following).__name__ not in PASSING:
            return None
    return None


def _reader(network: Network, keys: Sequence[str]) -> int | None:
    """Return the only call that reads a tensor; None if several do, or it is an output of the network."""
    if {str(id(tensor)) for tensor in network.model.outputs} & set(keys):
        return None
    return _only([place for place, call in enumerate(network.calls) for key in call.reads if key in keys])


def _channel_axis(layer: KerasLayer, tensor: KerasTensor) -> int:
    return 1 if getattr(layer, "data_format", None) == "channels_first" else len(tensor.shape) - 1


def _only(places: Sequence[int]) -> int | None:
    return places[0] if len(places) == 1 else None
