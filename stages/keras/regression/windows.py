"""Read what a convolution sees at chosen output positions, without computing the whole feature map.

Positions are flat indices into the output's spatial axes. Arrays have their channels last; of a layer with its channels
first, `channels_last` moves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from stages.keras.types import KerasLayer

Floats = NDArray[np.float32] | NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Axis:
    """Describe how a kernel walks along one spatial axis; `before` is the padding before the first sample."""

    taps: int
    stride: int
    dilation: int
    before: int
    size: int  # of the input
    transposed: bool = False

    def sources(self, places: Places) -> tuple[Places, NDArray[np.bool_]]:
        """Return for outputs at `places` (…) the input index under each tap (…, taps), and whether there is one."""
        taps = np.arange(self.taps) * self.dilation
        if not self.transposed:
            index = places[..., None] * self.stride + taps - self.before
            inside = (index >= 0) & (index < self.size)
        else:
            # The gradient of a convolution from the output to the input: output t reads input i where
            # t + before = i * stride + tap.
            shifted = places[..., None] + self.before - taps
            index = shifted // self.stride
            inside = (shifted % self.stride == 0) & (index >= 0) & (index < self.size)
        return np.where(inside, index, 0), inside


def windows(inputs: Floats, axes: Sequence[Axis], outputs: Sequence[int], picks: Places) -> Floats:
    """Return what the kernel sees, (N, P, taps, C), of `inputs` (N, *spatial, C) at `picks` (N, P); padding is zero.

    `outputs` are the output's spatial sizes; taps run like the kernel's spatial axes, the last one fastest.
    """
    count, channels = inputs.shape[0], inputs.shape[-1]
    spatial = inputs.shape[1:-1]
    flat = np.zeros((*picks.shape, 1), np.int64)
    inside = np.ones((*picks.shape, 1), bool)
    for axis, places, size in zip(axes, np.unravel_index(picks, outputs), spatial, strict=True):
        index, there = axis.sources(places)
        flat = (flat[..., :, None] * size + index[..., None, :]).reshape(*picks.shape, -1)
        inside = (inside[..., :, None] & there[..., None, :]).reshape(*picks.shape, -1)
    by_place = inputs.reshape(count, prod(spatial), channels)
    seen = by_place[np.arange(count)[:, None, None], flat]
    if not inside.all():
        seen = seen * inside[..., None]
    return seen


def axes_of(layer: KerasLayer, inputs: Sequence[int], outputs: Sequence[int]) -> tuple[Axis, ...]:
    """Return how a convolution of any kind walks from spatial sizes `inputs` to `outputs`."""
    transposed = type(layer).__name__.endswith("Transpose")
    # A layer's gradient is a convolution from its output to its input.
    wide, narrow = (outputs, inputs) if transposed else (inputs, outputs)
    ignored = type(layer).__name__ == "Conv3DTranspose"  # tf_keras computes it as if its `dilation_rate` were 1
    dilations = (1, 1, 1) if ignored else layer.dilation_rate
    return tuple(
        Axis(taps, stride, dilation, _before(layer.padding, large, small, taps, stride, dilation), size, transposed)
        for taps, stride, dilation, large, small, size in zip(
            layer.kernel_size, layer.strides, dilations, wide, narrow, inputs, strict=True
        )
    )


def _before(padding: str, wide: int, narrow: int, taps: int, stride: int, dilation: int) -> int:
    reach = (taps - 1) * dilation
    if padding == "same":
        return max((narrow - 1) * stride + reach + 1 - wide, 0) // 2
    return reach if padding == "causal" else 0


def channels_last(layer: KerasLayer, array: Floats) -> Floats:
    """Return a tensor of the layer with its channels on the last axis."""
    return np.moveaxis(array, 1, -1) if getattr(layer, "data_format", None) == "channels_first" else array
