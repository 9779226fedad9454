"""Shrink whole channels while training, the weakest most, so that a structured cut after it loses little.

The penalty is DepGraph's group lasso (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023,
arXiv:2301.12900): the sum over channels k of gamma_k ‖w_k‖², where w_k is every trainable weight that makes, scales,
shifts or reads the channel, in all layers that it couples, and gamma_k = 2^(4 (I_max - I_k) / (I_max - I_min)) with
I_k = ‖w_k‖² compared within its group: 1 for the strongest channel of a group, 16 for its weakest. As in growing
regularization (Wang et al., ICLR 2021, arXiv:2012.09243) the strength rises from zero, so that the choice of channels
is made while the network can still move what they do elsewhere.

Half of its gradient, gamma_k w_k, is taken off after the optimizer's step, scaled by the learning rate, and does not go
through the loss: Adam divides gradients by their size, which would take the strength out of the penalty (AdamW,
arXiv:1711.05101). Losses stay what they are without it. Nothing is kept from step to step, so that a killed training
resumes bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PreconditionError
from stages.finetune.config import Regularize
from stages.keras.channels.groups import ChannelGraph, ChannelGroup, Slot, channel_groups
from stages.keras.channels.labels import Role
from stages.keras.flatten import layers_by_flat_name
from stages.keras.layer_patterns import matching
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasModel, TfTensor, TfVariable

if TYPE_CHECKING:
    from tf_keras.callbacks import Callback
    from tf_keras.optimizers import Optimizer

ALPHA = 4.0  # as in DepGraph's experiments
WHERE = "finetune.regularize"


@dataclass(frozen=True, slots=True, eq=False)
class HeldChannels:
    """Hold the place of each index along an axis of a weight among the shrunk channels; others have the last place."""

    variable: TfVariable
    axis: int
    places: NDArray[np.int32]

    def squares(self, channels: int) -> TfTensor:
        """Return the sum of squares of the weights of each channel, (channels,)."""
        tf = import_tensorflow()
        others = [axis for axis in range(len(self.variable.shape)) if axis != self.axis]
        sums = tf.reduce_sum(tf.square(tf.convert_to_tensor(self.variable)), axis=others)
        return tf.math.unsorted_segment_sum(sums, self.places, channels + 1)[:-1]

    def scale(self, factors: TfTensor) -> None:
        """Multiply the weights of each channel; `factors` is (channels + 1,), the last one for all others."""
        tf = import_tensorflow()
        shape = [-1 if axis == self.axis else 1 for axis in range(len(self.variable.shape))]
        self.variable.assign(self.variable * tf.reshape(tf.gather(factors, self.places), shape))


class ChannelLasso:
    """Hold the channels of a model that are shrunk: those of all groups that a cut could take and `exclude` spares."""

    def __init__(self, model: KerasModel, settings: Regularize, total_steps: int) -> None:
        layers, graph = layers_by_flat_name(model), channel_groups(model)
        groups = _shrunk_groups(graph, settings.exclude, list(layers))
        members = np.concatenate([group.channels for group in groups])
        places = np.full(graph.count, members.size, np.int32)
        places[members] = np.arange(members.size, dtype=np.int32)
        self._settings = settings
        self._growing_steps = max(1, round(settings.growth * total_steps))
        self._group_of = np.repeat(np.arange(len(groups), dtype=np.int32), [group.channels.size for group in groups])
        trainable = {variable.ref() for variable in model.trainable_variables}
        held = [
            HeldChannels(slot.variable(layers[slot.layer]), slot.axis, places[slot.channels]) for slot in _slots(groups)
        ]
        self.held = [one for one in held if one.variable.ref() in trainable]  # no moving statistics, no frozen layers
        if not self.held:
            raise PreconditionError("all layers with channels to shrink are frozen", where=WHERE, hint="leave it out")

    def callback(self, optimizer: Optimizer) -> Callback:
        """Return a callback that shrinks the channels after each step of `optimizer`."""
        tf = import_tensorflow()

        def shrink() -> None:
            step = tf.cast(optimizer.iterations, tf.float32)
            strength = self._settings.groups * tf.minimum(1.0, step / self._growing_steps)
            self.shrink(strength * tf.cast(optimizer.learning_rate, tf.float32))

        traced = tf.function(shrink)
        callback = import_keras().callbacks.LambdaCallback(on_train_batch_end=lambda *_: traced())
        callback._supports_tf_logs = True  # noqa: SLF001 - it reads no logs: without this Keras copies them at each batch
        return callback

    def shrink(self, rate: TfTensor) -> None:
        """Take the share `rate` × gamma of every weight of a channel away, at most all of it."""
        tf = import_tensorflow()
        factors = tf.maximum(0.0, 1.0 - rate * self._gammas())
        factors = tf.concat([factors, [1.0]], axis=0)
        for held in self.held:
            held.scale(factors)

    def _gammas(self) -> TfTensor:
        """Return the weight of each channel's penalty, 1 for the strongest of a group to 2^ALPHA for its weakest."""
        tf = import_tensorflow()
        count = int(self._group_of[-1]) + 1
        sizes = tf.add_n([held.squares(self._group_of.size) for held in self.held])
        most, least = (
            tf.gather(extreme(sizes, self._group_of, count), self._group_of)
            for extreme in (tf.math.unsorted_segment_max, tf.math.unsorted_segment_min)
        )
        # The bound is for groups whose channels are equal, such as those that are all zero.
        return tf.pow(2.0, ALPHA * (most - sizes) / tf.maximum(most - least, 1e-12))


def _shrunk_groups(graph: ChannelGraph, exclude: Sequence[str], names: Sequence[str]) -> list[ChannelGroup]:
    """Return the groups to shrink; PreconditionError if there are none."""
    spared = {name for pattern in exclude for name in matching(pattern, names, f"{WHERE}.exclude")}
    # The layers by which `prune: {exclude: …}` finds its groups too.
    found = [group for group in graph.prunable if not spared & {*group.makers, *group.layers(Role.PASS_THROUGH)}]
    if not found:
        why = "all of them are excluded" if graph.prunable else "none could be cut afterwards"
        hint = "`secateur inspect` lists the channel groups, and why they are frozen"
        raise PreconditionError(f"there are no channels to shrink: {why}", where=WHERE, hint=hint)
    return found


def _slots(groups: Sequence[ChannelGroup]) -> list[Slot]:
    """Return each slot of the groups once: it may hold several groups' channels."""
    slots = [slot for group in groups for slot in (*group.producers, *group.pass_through, *group.consumers)]
    return list({id(slot): slot for slot in slots}.values())
