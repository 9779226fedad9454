"""Whether data fits a model, checked before either is used on the other."""

from __future__ import annotations

from pipeline.artifacts import Artifact, KerasFacts
from pipeline.data import Split
from pipeline.errors import DataError, PreconditionError
from stages.samples import misfit


def keras_facts_of(artifact: Artifact) -> KerasFacts:
    """The facts of a Keras model; PreconditionError for any other kind."""
    if not isinstance(artifact.facts, KerasFacts):
        raise PreconditionError(f"a keras-model is wanted, this is a {artifact.kind}")
    return artifact.facts


def require_classifier(facts: KerasFacts) -> None:
    """PreconditionError unless the model has one input and one output of shape (batch, classes)."""
    if len(facts.inputs) != 1 or len(facts.outputs) != 1:
        raise PreconditionError(
            f"accuracy is of models with one input and one output, this one has {len(facts.inputs)} "
            f"and {len(facts.outputs)}",
            hint="leave `test` out of the recipe's data, or split the model",
        )
    shape = facts.outputs[0].shape
    if len(shape) != 2 or shape[1] is None:
        raise PreconditionError(
            f"accuracy is of outputs (batch, classes), output {facts.outputs[0].name!r} has shape {shape}"
        )


def require_fit(split: Split, facts: KerasFacts) -> None:
    """DataError unless the split's inputs fit the model's input and its labels are among the model's classes."""
    import numpy as np

    where = f"data.{split.name}"
    if len(split) == 0:
        raise DataError("the split holds no samples", where=where)
    reason = misfit(np.shape(split.x), facts.inputs[0])
    if reason:
        hint = "reshape or resize the data, or load a model that takes this shape"
        raise DataError(f"the data does not fit the model: {reason}", where=where, hint=hint)
    labels = np.asarray(split.y)
    if not np.issubdtype(labels.dtype, np.integer) or labels.size != len(split):
        raise DataError(
            f"labels are to be one integer a sample, these are {labels.dtype} {labels.shape}",
            where=where,
            hint="turn one-hot labels into class numbers",
        )
    classes = max(facts.outputs[0].shape[1] or 0, 2)  # one output tells two classes apart
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"labels run from {low} to {high}, the model's {classes} classes from 0 to {classes - 1}",
            where=where,
            hint="is this the data that the model was trained on?",
        )
