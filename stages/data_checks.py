"""Whether data fits a model, checked before either is used on the other, without reading a sample."""

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
    """PreconditionError unless the model has one output of shape (batch, classes)."""
    require_one_output(facts)
    shape = facts.outputs[0].shape
    if len(shape) != 2 or shape[1] is None:
        raise PreconditionError(
            f"accuracy is of outputs (batch, classes), output {facts.outputs[0].name!r} has shape {shape}"
        )


def require_one_output(facts: KerasFacts) -> None:
    """PreconditionError unless the model has one output: metrics are of one."""
    if len(facts.outputs) != 1:
        raise PreconditionError(
            f"metrics are of models with one output, this one has {len(facts.outputs)}",
            hint="leave `test` out of the recipe's data, or split the model",
        )


def require_fit(split: Split, facts: KerasFacts, *, labels: bool = True) -> None:
    """DataError unless the split's inputs fit the model's and, where `labels` are needed, its targets the output."""
    where = f"data.{split.name}"
    if len(split) == 0:
        raise DataError("the split holds no samples", where=where)
    require_inputs(split, facts)
    if not labels:
        return
    if split.task == "unlabelled":
        hint = "give it labels, or leave out what needs them: a stage, or `test` under data"
        raise DataError("the split has no labels, and they are needed here", where=where, hint=hint)
    if split.task == "classes":
        _require_classes(split, facts, where)
    else:
        _require_targets(split, facts, where)


def require_inputs(split: Split, facts: KerasFacts) -> None:
    """DataError unless the split has the model's inputs, by name where there are several, in their shapes."""
    where, names = f"data.{split.name}", split.input_names
    wanted = {spec.name: spec for spec in facts.inputs}
    hint = "reshape or resize the data, or load a model that takes this shape"
    if names is None:
        if len(wanted) > 1:
            raise DataError(
                f"the data does not fit the model: it has one input, the model takes {', '.join(wanted)}",
                where=where,
                hint="name an array for each input: x_train__NAME in an npz",
            )
        names = tuple(wanted)
    elif set(names) != set(wanted):
        what = f"the data does not fit the model: its inputs are {', '.join(names)}, the model's {', '.join(wanted)}"
        raise DataError(what, where=where, hint="inputs are matched by name")
    for name, shape in zip(names, split.input_shapes(), strict=True):
        reason = misfit((len(split), *shape), wanted[name])
        if reason:
            raise DataError(f"the data does not fit the model: {reason}", where=where, hint=hint)


def require_class_labels(split: Split, why: str) -> None:
    """PreconditionError unless the split's targets are class labels; `why` says what needs them."""
    if split.task != "classes":
        raise PreconditionError(f"{why} needs class labels, the {split.name} split is for {split.task}")


def _require_classes(split: Split, facts: KerasFacts, where: str) -> None:
    require_classifier(facts)
    classes = max(facts.outputs[0].shape[1] or 0, 2)  # one output tells two classes apart
    low, high = int(split.y.min()), int(split.y.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"labels run from {low} to {high}, the model's {classes} classes from 0 to {classes - 1}",
            where=where,
            hint="is this the data that the model was trained on? whole numbers to predict are data.task: regression",
        )
    if split.classes is not None and len(split.classes) != classes:
        raise DataError(
            f"the data has {len(split.classes)} classes, the model {classes}",
            where=where,
            hint="data.classes names them in the model's order",
        )


def _require_targets(split: Split, facts: KerasFacts, where: str) -> None:
    require_one_output(facts)
    found, wanted = tuple(split.y.shape[1:]) or (1,), facts.outputs[0].shape[1:]
    if len(found) != len(wanted) or any(size not in (None, n) for size, n in zip(wanted, found, strict=True)):
        raise DataError(
            f"targets are {found} a sample, the model's output {facts.outputs[0].name!r} is {wanted}",
            where=where,
            hint=f"data.task is {split.task}: is this the data that the model was trained on?",
        )
