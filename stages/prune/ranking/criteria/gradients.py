"""Rank by derivatives: how much the loss increases without a channel (`gates.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import PreconditionError
from stages.keras.tensorflow import import_tensorflow
from stages.prune.ranking.criterion import Question, criterion

if TYPE_CHECKING:
    from stages.prune.ranking.members import Member

PROBES = 4  # random directions per sample, for the second-order criterion


@criterion(needs="labels", loss=True)
def taylor(question: Question) -> list[list[Member]]:
    """Compute the squared first-order change of the loss when the channel goes; the mean over samples.

    The loss is that of the task: cross-entropy for classes, binary for several labels, the mean square for numbers; of
    several outputs the sum over those that have labels. Choose it if there are labelled samples and the accuracy right
    after pruning counts (Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019, with gates).
    """
    import numpy as np

    from stages.keras.losses import task_loss
    from stages.prune.ranking.gates import mean_squares

    model, samples = question.model, question.samples
    tasks = samples.tasks()
    if not tasks:
        what = "taylor needs labels, of several outputs by output name"
        raise PreconditionError(what, where="prune.criterion", hint="hessian needs none")
    losses = {index: task_loss(model, task, index) for index, task in tasks.items()}

    def objective(inputs: list[Any], labels: list[Any]) -> Any:
        outputs = import_tensorflow().nest.flatten(model(_single(inputs), training=False))
        return sum(loss(y, outputs[index]) for (index, loss), y in zip(losses.items(), labels, strict=True))

    def read(start: int, stop: int) -> tuple[list[Any], list[Any]]:
        inputs, labels = samples.read(start, stop)
        targets = [labels[model.output_names[index]] if isinstance(labels, Mapping) else labels for index in tasks]
        kinds = [np.int64 if task == "classes" else np.float32 for task in tasks.values()]
        return inputs, [np.asarray(y, kind) for y, kind in zip(targets, kinds, strict=True)]

    return mean_squares(question, replace(samples, read=read), objective)


@criterion(needs="samples", loss=True)
def hessian(question: Question) -> list[list[Member]]:
    """Compute the squared change of the outputs, before a closing softmax, to second order (Gauss-Newton).

    It needs no labels. The trace over outputs is estimated with random signs (Hutchinson, 1989). Choose it if there are
    no labels, or if the pruned network has to keep the outputs rather than the top class. In the manner of the
    label-free Hessian of Sony's Model Compression Toolkit ("EPTQ", Gordon et al., 2023), over whole channels.
    """
    import numpy as np

    from stages.keras.closing import before_squashing
    from stages.prune.ranking.gates import mean_squares

    samples, rng = question.samples, np.random.default_rng(question.seed)
    tf = import_tensorflow()
    with before_squashing(question.model) as logits:

        def objective(inputs: list[Any], signs: Any) -> Any:
            outputs = tf.nest.flatten(logits(_single(inputs), training=False))
            return tf.add_n([tf.reduce_sum(output * sign) for output, sign in zip(outputs, signs, strict=True)])

        shapes = [tuple(size or 1 for size in tensor.shape[1:]) for tensor in logits.outputs]

        def signed(start: int, stop: int) -> tuple[list[Any], Any]:
            inputs, _ = samples.read(start, stop)
            return inputs, [rng.choice([-1.0, 1.0], (stop - start, *shape)).astype(np.float32) for shape in shapes]

        return mean_squares(question, replace(samples, read=signed), objective, PROBES)


@criterion(needs="samples", loss=True)
def obs(question: Question) -> list[list[Member]]:
    """Compute the rise of the loss when each channel goes, one after another, and the others take over what they can.

    It needs no labels. Choose it before `reconstruct`, which lets them take over, and for a high ratio: other criteria
    judge each channel as if it went alone. Structured optimal brain surgeon (ZipLM, arXiv:2302.04089).
    """
    import numpy as np

    from stages.keras.regression.one_thread import one_blas_thread
    from stages.prune.ranking.members import Member
    from stages.prune.ranking.removal import removal_losses_of

    with one_blas_thread():
        losses = removal_losses_of(question)
    return [
        [] if loss is None else [Member(group.channels, np.asarray(loss))]
        for group, loss in zip(question.groups, losses, strict=True)
    ]


def _single(inputs: list[Any]) -> Any:
    return inputs[0] if len(inputs) == 1 else inputs
