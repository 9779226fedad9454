"""Multiply-accumulates of a Keras model, layer by layer, for one sample.

What counts is what every paper counts: products of weights with activations in convolutions and dense layers.
Normalisation, activations, pooling and element-wise layers count nothing.
"""

from __future__ import annotations

from math import prod
from typing import Any

from stages.wrappers import wrapper_of


def count_macs(model: Any) -> int:
    """MACs of one forward pass of one sample; free spatial sizes count as 1."""
    return sum(layer_macs(layer) for layer in model.layers)


def layer_macs(layer: Any) -> int:
    """MACs of a layer over all its calls; 0 for kinds without weights on activations."""
    if hasattr(layer, "layers") and hasattr(layer, "inputs"):
        return count_macs(layer)
    computing = layer.layer if wrapper_of(layer) and hasattr(layer, "layer") else layer
    kernels = _kernels(computing)
    if not kernels:
        return 0
    return sum(_call_macs(layer, computing, kernels, index) for index in range(max(1, len(layer.inbound_nodes))))


def _kernels(layer: Any) -> list[Any]:
    names = ("depthwise_kernel", "pointwise_kernel", "kernel")
    found = [getattr(layer, name, None) for name in names]
    return [kernel for kernel in found if hasattr(kernel, "shape")]


def _call_macs(layer: Any, computing: Any, kernels: list[Any], call: int) -> int:
    """`computing` is the layer, or what one of tfmot's wrappers wraps: it has the kernels, the wrapper the shapes."""
    output = layer.get_output_shape_at(call)
    rank = len(kernels[0].shape)
    if rank == 2:  # Dense: the kernel once at each position
        return int(prod(kernels[0].shape)) * _positions(output[1:-1])
    first = getattr(computing, "data_format", "channels_last") == "channels_first"
    if "Transpose" in type(computing).__name__:  # a transposed convolution reads each input position once
        return int(prod(kernels[0].shape)) * _positions(_spatial(layer.get_input_shape_at(call), first))
    # Every kernel of a (separable, depthwise, grouped) convolution is used once at each output position.
    return sum(int(prod(kernel.shape)) for kernel in kernels) * _positions(_spatial(output, first))


def _spatial(shape: tuple[int | None, ...], channels_first: bool) -> tuple[int | None, ...]:
    return shape[2:] if channels_first else shape[1:-1]


def _positions(sizes: tuple[int | None, ...]) -> int:
    return prod(size or 1 for size in sizes)
