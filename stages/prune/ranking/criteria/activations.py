"""Rank by activations: how often a channel is zero.

Zeros of every layer are counted in one pass, batch by batch, inside the graph: the activations themselves never leave
it, so memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.keras.layer_kinds import kind_of
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasLayer, KerasModel
from stages.prune.ranking.criterion import Question, criterion
from stages.samples.batches import Progress, unheard

if TYPE_CHECKING:
    from stages.prune.ranking.members import Member, Scores
    from stages.samples.model_samples import ModelSamples

BATCH = 16  # activations of all layers of a deep network at 299×299 are 0.1 GB a sample


@criterion(needs="samples")
def apoz(question: Question) -> list[list[Member]]:
    """Compute 1 - APoZ: the share of positions and samples at which the activation of a channel is not zero.

    Choose it for networks with plain ReLUs and data like what the network will see (Hu et al., "Network Trimming: A
    Data-Driven Neuron Pruning Approach", 2016). Without a following ReLU nothing is ever zero and all channels score 1.
    """
    from stages.prune.ranking.filters import kernels
    from stages.prune.ranking.members import Member

    layers = dict.fromkeys(slot.layer for group in question.groups for slot in kernels(group))
    shares = zero_shares(question.model, tuple(layers), question.samples, question.heard)
    return [
        [
            Member(slot.channels, 1 - shares[slot.layer])
            for slot in kernels(group)
            # A recurrent kernel has a column for each gate of a unit, and there are activations of units only.
            if shares[slot.layer].size == slot.channels.size
        ]
        for group in question.groups
    ]


def zero_shares(
    model: KerasModel, layers: Sequence[str], samples: ModelSamples, heard: Progress = unheard, batch: int = BATCH
) -> Mapping[str, Scores]:
    """Return for each layer the average percentage of zeros (0…1) of each of its channels, after its activation.

    Over all its calls, positions and samples. One pass over the samples, whatever the number of layers.
    """
    import numpy as np

    tf = import_tensorflow()
    tensors = {name: activations_after(model, model.get_layer(name)) for name in layers}
    flat = [(name, tensor, axis) for name, calls in tensors.items() for tensor, axis in calls]
    reader = import_keras().Model(model.inputs, [tensor for _, tensor, _ in flat])

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def zeros_of(*inputs: Any) -> Any:
        outputs = tf.nest.flatten(reader(list(inputs) if len(inputs) > 1 else inputs[0], training=False))
        return [_zeros(output, axis) for output, (_, _, axis) in zip(outputs, flat, strict=True)]

    sums: dict[str, Any] = dict.fromkeys(tensors, 0)
    counts = dict.fromkeys(tensors, 0)
    done = 0
    for inputs, _ in samples.batches(batch):
        for (name, _, _), (zeros, positions) in zip(flat, zeros_of(*map(tf.constant, inputs)), strict=True):
            sums[name] = sums[name] + zeros.numpy()
            counts[name] += int(positions)
        done += len(inputs[0])
        heard(done, len(samples))
    return {name: np.asarray(sums[name], np.float64) / max(1, counts[name]) for name in tensors}


def _zeros(output: Any, axis: int) -> tuple[Any, Any]:
    """Return how many entries of each channel are zero, and how many there are.

    Summed as float32, exact up to 2^24 positions of one sample: 64-bit counters took as long as the whole network.
    """
    tf = import_tensorflow()
    others = [other for other in range(1, len(output.shape)) if other != axis]
    of_samples = tf.reduce_sum(tf.cast(tf.equal(output, 0), tf.float32), axis=others)
    zeros = tf.reduce_sum(tf.cast(of_samples, tf.int64), axis=0)
    return zeros, tf.size(output, out_type=tf.int64) // tf.cast(tf.shape(output)[axis], tf.int64)


def activations_after(model: KerasModel, layer: KerasLayer) -> list[tuple[Any, int]]:
    """Return for each call of the layer the tensor after the following activation, and its channel axis."""
    inside = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}  # noqa: SLF001 - Keras' own graph
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
    activations = []
    for node in layer.inbound_nodes:
        if id(node) in inside:
            tensor = _activated(node, inside).outputs
            activations.append((tensor, axis % len(tensor.shape)))
    return activations


def _activated(node: Any, inside: set[int]) -> Any:
    """Return the node from here on that applies an activation; `node` if there is none before other weights."""
    current = node
    while not _is_activation(current.layer):
        following = [later for later in current.layer.outbound_nodes if id(later) in inside and _reads(later, current)]
        if not following or not _keeps_channels(following[0], current):
            return node
        current = following[0]
    return current


def _reads(later: Any, node: Any) -> bool:
    return any(tensor is node.outputs for tensor in later.keras_inputs)


def _is_activation(layer: KerasLayer) -> bool:
    function = getattr(layer, "activation", None)
    return kind_of(layer).activates or (callable(function) and getattr(function, "__name__", "") != "linear")


def _keeps_channels(later: Any, node: Any) -> bool:
    same = getattr(later.outputs, "shape", None) is not None and tuple(later.outputs.shape) == tuple(node.outputs.shape)
    return same and (not later.layer.weights or kind_of(later.layer).by_channel)
