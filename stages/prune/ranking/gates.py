"""Differentiate by gates: how much a scalar of the outputs changes without a channel.

Think of a gate of value 1 on each channel, before everything that reads it. The derivative with respect to the gate is
the sum, over every weight by which the channel is read, of weight times its gradient: so no gate is built, any coupling
is covered, and what is judged is exactly what surgery removes (compare masked equivalence).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stages.keras.channels.groups import ChannelGroup, Slot
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel
from stages.prune.ranking.criterion import Question
from stages.prune.ranking.members import Member, Scores
from stages.samples.model_samples import ModelSamples

Objective = Callable[[list[Any], list[Any]], Any]  # inputs and labels (or signs) of one sample to a scalar
Derivatives = dict[tuple[str, str, int], Scores]  # by layer, weight and axis: one per index


def mean_squares(
    question: Question, samples: ModelSamples, objective: Objective, repeats: int = 1
) -> list[list[Member]]:
    """Return for each channel the mean, over `samples`, of `objective`'s squared derivative by its gate.

    `samples` are those of the question, with what the objective needs in place of the labels.
    """
    groups = question.groups
    readers = [{id(slot): slot for slot in group.consumers} for group in groups]
    slots = {(s.layer, s.weight, s.axis): s for by_id in readers for s in by_id.values()}
    sums = [np.zeros(group.channels.size) for group in groups]
    done = 0
    for derivatives in _derivatives(question.model, list(slots.values()), samples, objective, repeats):
        for group, total in zip(groups, sums, strict=True):
            np.add(total, np.square(_of_group(group, derivatives)), out=total)  # each sample's: signs must not cancel
        done += 1
        question.heard(done // repeats, len(samples))
    return [
        [Member(group.channels, total / max(1, done))] if group.consumers else []
        for group, total in zip(groups, sums, strict=True)
    ]


def _of_group(group: ChannelGroup, derivatives: Derivatives) -> Scores:
    """Return the derivative with respect to the gate of each channel: over all that read it."""
    total = np.zeros(group.channels.size)
    for slot in group.consumers:
        # Clipped, because `searchsorted` gives one more than the last index for ids above all of the group's.
        positions = np.searchsorted(group.channels, slot.channels).clip(max=group.channels.size - 1)
        inside = group.channels[positions] == slot.channels
        values = derivatives[slot.layer, slot.weight, slot.axis]
        total += np.bincount(positions[inside], values[inside], minlength=total.size)
    return total


def _derivatives(
    model: KerasModel, slots: Sequence[Slot], samples: ModelSamples, objective: Objective, repeats: int
) -> Iterator[Derivatives]:
    """Yield the derivative along the axis of each slot, for one sample after the other, `repeats` times each."""
    tf = import_tensorflow()
    variables = [slot.variable(model.get_layer(slot.layer)) for slot in slots]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(inputs: Any, labels: Any) -> list[Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            value = objective(inputs, labels)
        gradients = tape.gradient(value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [
            tf.reduce_sum(variable * gradient, axis=[a for a in range(len(variable.shape)) if a != slot.axis])
            for variable, gradient, slot in zip(variables, gradients, slots, strict=True)
        ]

    for index in range(len(samples)):
        for _ in range(repeats):
            inputs, labels = samples.read(index, index + 1)
            values = step(*([tf.constant(array) for array in arrays] for arrays in (inputs, labels)))
            yield {
                (slot.layer, slot.weight, slot.axis): np.asarray(value, np.float64)
                for slot, value in zip(slots, values, strict=True)
            }
