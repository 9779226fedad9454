"""Rank by derivatives: how much the loss increases without a channel.

Think of a gate of value 1 on each channel, before everything that reads it. The derivative with respect to the gate is
the sum, over every weight by which the channel is read, of weight times its gradient: so no gate is built, any coupling
is covered, and what is judged is exactly what surgery removes (compare masked equivalence).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.errors import PreconditionError
from stages.keras.closing import before_squashing
from stages.keras.losses import task_loss
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel
from stages.prune.analysis.groups import ChannelGroup, Slot
from stages.prune.ranking.criteria.reduction import Member, Scores
from stages.prune.samples import Samples
from stages.samples.batches import Progress

PROBES = 4  # random directions per sample, for the second-order criterion

Objective = Callable[[list[Any], list[Any]], Any]  # inputs and labels (or signs) of one sample to a scalar
Derivatives = dict[tuple[str, str, int], Scores]  # by layer, weight and axis: one per index


def taylor(
    model: KerasModel, groups: Sequence[ChannelGroup], samples: Samples, _seed: int, heard: Progress
) -> list[list[Member]]:
    """Compute the squared first-order change of the loss when the channel goes; the mean over samples.

    The loss is that of the task: cross-entropy for classes, binary for several labels, the mean square for numbers; of
    several outputs the sum over those that have labels. Choose it if there are labelled samples and the accuracy right
    after pruning counts (Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019, with gates).
    """
    tasks = samples.tasks()
    if not tasks:
        what = "taylor needs labels, of several outputs by output name"
        raise PreconditionError(what, where="prune.criterion", hint="hessian needs none")
    losses = {place: task_loss(model, task, place) for place, task in tasks.items()}

    def objective(inputs: list[Any], labels: list[Any]) -> Any:
        outputs = import_tensorflow().nest.flatten(model(_single(inputs), training=False))
        return sum(loss(y, outputs[place]) for (place, loss), y in zip(losses.items(), labels, strict=True))

    def read(start: int, stop: int) -> tuple[list[Any], list[Any]]:
        inputs, labels = samples.read(start, stop)
        found = [labels[model.output_names[place]] if isinstance(labels, Mapping) else labels for place in tasks]
        kinds = [np.int64 if task == "classes" else np.float32 for task in tasks.values()]
        return inputs, [np.asarray(y, kind) for y, kind in zip(found, kinds, strict=True)]

    return _mean_squares(model, groups, replace(samples, read=read), objective, 1, heard)


def hessian(
    model: KerasModel, groups: Sequence[ChannelGroup], samples: Samples, seed: int, heard: Progress
) -> list[list[Member]]:
    """Compute the squared change of the outputs, before a closing softmax, to second order (Gauss-Newton).

    It needs no labels. The trace over outputs is estimated with random signs (Hutchinson, 1989). Choose it if there are
    no labels, or if the pruned network has to keep the outputs rather than the top class. In the manner of the
    label-free Hessian of Sony's Model Compression Toolkit ("EPTQ", Gordon et al., 2023), over whole channels.
    """
    rng = np.random.default_rng(seed)
    tf = import_tensorflow()
    with before_squashing(model) as logits:

        def objective(inputs: list[Any], signs: Any) -> Any:
            outputs = tf.nest.flatten(logits(_single(inputs), training=False))
            return tf.add_n([tf.reduce_sum(output * sign) for output, sign in zip(outputs, signs, strict=True)])

        shapes = [tuple(size or 1 for size in tensor.shape[1:]) for tensor in logits.outputs]

        def signed(start: int, stop: int) -> tuple[list[Any], Any]:
            inputs, _ = samples.read(start, stop)
            return inputs, [rng.choice([-1.0, 1.0], (stop - start, *shape)).astype(np.float32) for shape in shapes]

        return _mean_squares(model, groups, Samples(len(samples), signed), objective, PROBES, heard)


def _mean_squares(
    model: KerasModel,
    groups: Sequence[ChannelGroup],
    samples: Samples,
    objective: Objective,
    repeats: int,
    heard: Progress,
) -> list[list[Member]]:
    """Return for each channel the mean, over samples, of `objective`'s squared derivative by its gate."""
    readers = [{id(slot): slot for slot in group.consumers} for group in groups]
    slots = {(s.layer, s.weight, s.axis): s for found in readers for s in found.values()}
    sums = [np.zeros(group.channels.size) for group in groups]
    done = 0
    for found in _derivatives(model, list(slots.values()), samples, objective, repeats):
        for group, total in zip(groups, sums, strict=True):
            np.add(total, np.square(_of_group(group, found)), out=total)  # each sample's: signs must not cancel
        done += 1
        heard(done // repeats, len(samples))
    return [
        [Member(group.channels, total / max(1, done))] if group.consumers else []
        for group, total in zip(groups, sums, strict=True)
    ]


def _of_group(group: ChannelGroup, found: Derivatives) -> Scores:
    """Return the derivative with respect to the gate of each channel: over all that read it."""
    total = np.zeros(group.channels.size)
    for slot in group.consumers:
        places = np.searchsorted(group.channels, slot.channels).clip(max=group.channels.size - 1)
        inside = group.channels[places] == slot.channels
        values = found[slot.layer, slot.weight, slot.axis]
        total += np.bincount(places[inside], values[inside], minlength=total.size)
    return total


def _derivatives(
    model: KerasModel, slots: Sequence[Slot], samples: Samples, objective: Objective, repeats: int
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


def _single(inputs: list[Any]) -> Any:
    return inputs[0] if len(inputs) == 1 else inputs
