"""Hold the table of Keras' own kinds of layers: what counting, pruning, folding and training need to know of each.

A new kind is one entry here. Which of its channels go together is a rule of pruning (`stages/keras/channels/rules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from stages.keras import layer_work as work
from stages.keras.layer_work import NOTHING, Formula, Seen, Work, of_keras, total
from stages.keras.types import KerasLayer


@dataclass(frozen=True, slots=True)
class Kernel:
    """Describe a weight of a layer by name, and its channel axes, counted from its last one.

    Input channels lie along `inputs`; None if rows are looked up. The axes of `outputs` together count the output
    channels: a depthwise kernel has two. `probe` is the operator that measures this kernel alone on a device.
    """

    weight: str
    inputs: int | None
    outputs: tuple[int, ...]
    probe: Literal["conv", "depthwise", "dense"] | None = None


@dataclass(frozen=True, slots=True)
class LayerKind:
    """Describe a kind of layer. A fused activation is told by the layer itself: its `activation`."""

    work: Formula | None = None  # its multiply-accumulates; None if it takes none
    traced: bool = False  # it runs any code, whose multiply-accumulates are those of its graph
    kernels: tuple[Kernel, ...] = ()  # in the order in which they work, and before the bias among the weights
    absorbs: bool = False  # its last kernel and its bias can take over a batch normalization that follows
    folds: bool = False  # it normalizes by stored statistics, which what absorbs it takes over
    activates: bool = False  # it is an activation, without an `activation` that says which
    by_channel: bool = False  # what apoz looks past for the activation: each channel has weights of its own
    by_shape: bool = False  # `build` makes weights in the order of `get_weights`; its one output has a known shape

    @property
    def probed(self) -> bool:
        """Return whether probes can represent the layer: one for each kernel."""
        return bool(self.kernels) and all(kernel.probe for kernel in self.kernels)

    @property
    def separable(self) -> bool:
        """Return whether it is several convolutions in one layer."""
        return len(self.kernels) > 1


def kind_of(layer: KerasLayer) -> LayerKind:
    """Return what is known of layers of this class's name; `of_keras` says whether the class is Keras' own."""
    return KINDS.get(type(layer).__name__, UNKNOWN)


def work_of_kind(layer: KerasLayer, seen: Seen) -> Work:
    """Return the work of one call of Keras' own layer, by its kind's formula; nothing if it has none."""
    formula = kind_of(layer).work
    if not of_keras(layer):
        return Work(unknown=(type(layer).__name__,))
    return NOTHING if formula is None else formula(layer, seen)


def _bidirectional(layer: KerasLayer, seen: Seen) -> Work:
    return total([work_of_kind(direction, seen) for direction in (layer.forward_layer, layer.backward_layer)])


def _inner(layer: KerasLayer, seen: Seen) -> Work:
    return work_of_kind(layer.layer, seen)


UNKNOWN = LayerKind()
PLAIN = LayerKind(by_shape=True)
CONVOLUTION = LayerKind(work.convolution, kernels=(Kernel("kernel", -2, (-1,), "conv"),), absorbs=True, by_shape=True)
TRANSPOSED = LayerKind(work.transposed, kernels=(Kernel("kernel", -1, (-2,)),), absorbs=True)
DEPTHWISE_KERNEL = Kernel("depthwise_kernel", -2, (-2, -1), "depthwise")
DEPTHWISE = LayerKind(work.depthwise, kernels=(DEPTHWISE_KERNEL,), absorbs=True, by_shape=True)
SEPARABLE = LayerKind(
    work.separable,
    kernels=(DEPTHWISE_KERNEL, Kernel("pointwise_kernel", -2, (-1,), "conv")),
    absorbs=True,
    by_shape=True,
)


def _unprobed(kind: LayerKind) -> LayerKind:
    return replace(kind, kernels=tuple(replace(kernel, probe=None) for kernel in kind.kernels))


KINDS: Mapping[str, LayerKind] = MappingProxyType(
    {
        "Dense": LayerKind(work.dense, kernels=(Kernel("kernel", -2, (-1,), "dense"),), absorbs=True, by_shape=True),
        "EinsumDense": LayerKind(work.einsum_dense),
        "Embedding": LayerKind(kernels=(Kernel("embeddings", None, (-1,)),)),
        **dict.fromkeys(("Conv1D", "Conv2D"), CONVOLUTION),
        "Conv3D": _unprobed(CONVOLUTION),
        **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), TRANSPOSED),
        "DepthwiseConv1D": _unprobed(DEPTHWISE),
        "DepthwiseConv2D": DEPTHWISE,
        **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), SEPARABLE),
        **dict.fromkeys(("LocallyConnected1D", "LocallyConnected2D"), LayerKind(work.locally_connected)),
        **dict.fromkeys(("RNN", "SimpleRNN", "GRU", "LSTM"), LayerKind(work.recurrent)),
        **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), LayerKind(work.recurrent_convolution)),
        "Bidirectional": LayerKind(_bidirectional),
        "SpectralNormalization": LayerKind(_inner),
        "MultiHeadAttention": LayerKind(work.multi_head_attention),
        "Attention": LayerKind(work.attention),
        "AdditiveAttention": LayerKind(work.additive_attention),
        "Dot": LayerKind(work.dot),
        **dict.fromkeys(("Lambda", "TFOpLambda", "SlicingOpLambda", "RandomFourierFeatures"), LayerKind(traced=True)),
        "BatchNormalization": LayerKind(folds=True, by_channel=True, by_shape=True),
        "SyncBatchNormalization": LayerKind(folds=True),  # by channel too, but scores of apoz would change
        **dict.fromkeys(("ReLU", "LeakyReLU"), LayerKind(activates=True, by_shape=True)),
        **dict.fromkeys(("ELU", "ThresholdedReLU"), LayerKind(activates=True)),
        "PReLU": LayerKind(activates=True, by_channel=True),
        **dict.fromkeys(("Activation", "Dropout", "Flatten", "Reshape", "ZeroPadding2D", "Cropping2D"), PLAIN),
        **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"), PLAIN),
        **dict.fromkeys(("MaxPooling2D", "AveragePooling2D"), PLAIN),
        **dict.fromkeys(("GlobalMaxPooling2D", "GlobalAveragePooling2D"), PLAIN),
    }
)
