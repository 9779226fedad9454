"""Take batch normalizations that stand alone into the kernels around them, or make them depthwise convolutions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from stages.keras.equalizing.channels import FIXED, Channels, is_normalization
from stages.keras.equalizing.draft import Array, Draft, Replacement, identity
from stages.keras.equalizing.offsets import followed
from stages.keras.regression.running import Network
from stages.keras.stripping.folding import scale_and_offset
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer


def settle_normalizations(network: Network, draft: Draft, kept: frozenset[str]) -> list[str]:
    """Change the draft, normalization by normalization in the order of the graph; return what was done, a note each."""
    return _Settling(network, draft, kept).settle()


class _Settling:
    """Hold the normalizations that stand alone, as factor and offset (C,) of each channel."""

    def __init__(self, network: Network, draft: Draft, kept: frozenset[str]) -> None:
        self._network, self._draft = network, draft
        calls = Counter(call.layer for call in network.calls)
        self._nodes = {node.layer.name: node for node in network.nodes if is_normalization(node)}
        values = {name: scale_and_offset(node.layer) for name, node in self._nodes.items()}
        alone = (name for name in values if calls[name] == 1 and np.isfinite(values[name]).all())
        self._affine: dict[str, tuple[Array, Array]] = {name: values[name] for name in alone if name not in kept}
        self._fixed = kept | (self._nodes.keys() - self._affine.keys())
        self._channels = Channels.of(network, self._fixed)
        self._readers = Counter(np.concatenate([*self._channels.reads.values(), []]).tolist())

    def settle(self) -> list[str]:
        gone = [name for name in self._affine if self._goes(name)]
        notes = [f"{name}: its scale goes into the kernels before it, its offset into those after it" for name in gone]
        for name in self._affine.keys() - set(gone):
            layer, four_axes = self._nodes[name].layer, len(self._nodes[name].outputs.shape) == 4
            self._draft.replaced[name] = (_depthwise if four_axes else _normalization)(layer, *self._affine[name])
            notes += [f"{name}: a depthwise convolution, with a scale for each channel"] if four_axes else []
        return sorted(notes)

    def _goes(self, name: str) -> bool:
        """Take a normalization into the kernels before and after it; return whether all of it can go there."""
        scale, offset = self._affine[name]
        ids, sizes = self._channels.reads[name], np.where(scale == 0, 1, np.abs(scale))
        alone = all(self._readers[one] == 1 for one in ids.tolist())
        if not alone or ((ids == FIXED) & (sizes != 1)).any():
            return False
        made = next(call.makes[0] for call in self._network.calls if call.layer == name)
        found = followed(self._network, made, np.sign(scale), offset, self._fixed)
        if found is None:
            return False
        by_id = dict(zip(ids.tolist(), sizes.tolist(), strict=True))
        for maker, channels in self._channels.makes.items():
            factor = np.array([by_id.get(one, 1.0) for one in channels.tolist()])
            if (factor != 1).any():
                self._scale_outputs(maker, factor)
        for change in found.changes:
            self._read(change.layer, change.factor, change.offset)
        self._draft.replaced[name] = identity(self._nodes[name].layer)
        return True

    def _scale_outputs(self, name: str, factor: Array) -> None:
        if name in self._affine:
            scale, offset = self._affine[name]
            self._affine[name] = scale * factor, offset * factor
        else:
            self._draft.of(name).scale_outputs(factor)

    def _read(self, name: str, factor: Array, offset: Array) -> None:
        """Make a layer read x = factor · new + offset."""
        if name in self._affine:
            own, shift = self._affine[name]
            self._affine[name] = own * factor, shift + own * offset
        else:
            kernels = self._draft.of(name)
            kernels.shift_inputs(offset)
            kernels.scale_inputs(factor)


def _depthwise(layer: KerasLayer, scale: Array, offset: Array) -> Replacement:
    made = import_keras().layers.DepthwiseConv2D(1, name=layer.name, dtype=layer.dtype_policy)
    return Replacement(made, (scale.reshape(1, 1, -1, 1), offset))


def _normalization(layer: KerasLayer, scale: Array, offset: Array) -> Replacement:
    settings: dict[str, Any] = {**layer.get_config(), "scale": True, "center": True}
    made, ones = type(layer).from_config(settings), np.ones_like(scale)
    return Replacement(made, (scale * np.sqrt(1 + layer.epsilon), offset, 0 * ones, ones))
