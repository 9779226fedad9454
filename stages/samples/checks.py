"""Check whether data fits a model before either is used, without reading a sample.

A model with several outputs has its targets by output name; outputs without targets are neither trained nor measured.
"""

from __future__ import annotations

from pipeline.data import Split
from pipeline.errors import DataError, PreconditionError
from pipeline.recipe.errors import nearest
from pipeline.records.artifacts import Artifact, TensorSpec
from pipeline.records.facts import KerasFacts
from stages.samples.batches import misfit


def keras_facts_of(artifact: Artifact) -> KerasFacts:
    """Return the facts of a Keras model; PreconditionError for any other kind."""
    if not isinstance(artifact.facts, KerasFacts):
        raise PreconditionError(f"a keras-model is wanted, this is a {artifact.kind}")
    return artifact.facts


def require_classifier(facts: KerasFacts) -> None:
    """Raise PreconditionError unless the model has one output of shape (batch, classes)."""
    if len(facts.outputs) != 1:
        raise PreconditionError(f"this needs a model with one output, this one has {len(facts.outputs)}")
    _require_class_output(facts.outputs[0])


def labelled_outputs(split: Split, facts: KerasFacts) -> dict[str, Split]:
    """Return the split for each output of the model that has targets, in the model's order; empty without labels.

    DataError if labels name no output, or an unknown one.
    """
    names, where = [spec.name for spec in facts.outputs], f"data.{split.name}"
    if split.output_names is None:
        if split.labelled and len(names) > 1:
            what = f"the labels don't say which output they are for: the model has {', '.join(names)}"
            hint = f"name them by output: y_{split.name}__{names[0]} in an npz, `label: {{{names[0]}: …}}` elsewhere"
            raise DataError(what, where=where, hint=hint)
        return {names[0]: split} if split.labelled else {}
    for name in split.output_names:
        if name not in names:
            raise DataError(
                f"there are labels for {name!r}, no output of the model", where=where, hint=nearest(name, names)
            )
    return {name: split.of_output(name) for name in names if name in split.output_names}


def _require_class_output(output: TensorSpec) -> None:
    if len(output.shape) != 2 or output.shape[1] is None:
        raise PreconditionError(
            f"accuracy is of outputs (batch, classes), output {output.name!r} has shape {output.shape}"
        )


def require_fit(split: Split, facts: KerasFacts, *, labels: bool = True) -> None:
    """Raise DataError unless the split's inputs fit the model's and, if `labels` are needed, its targets the outputs.

    With several outputs, labels for one of them suffice.
    """
    where = f"data.{split.name}"
    if len(split) == 0:
        raise DataError("the split holds no samples", where=where)
    require_inputs(split, facts)
    if not labels:
        return
    if not split.labelled:
        hint = (
            f"give it labels (y_{split.name} in an npz), or say `task: unlabelled` under data: "
            "outputs are then compared, and nothing is measured by labels"
        )
        raise DataError(f"the {split.name} split has no labels, and they are needed here", where=where, hint=hint)
    specs = {spec.name: spec for spec in facts.outputs}
    for name, seen in labelled_outputs(split, facts).items():
        if seen.task == "classes":
            _require_classes(seen, specs[name], where if len(specs) == 1 else f"{where}, output {name}")
        else:
            _require_targets(seen, specs[name], where)


def require_inputs(split: Split, facts: KerasFacts) -> None:
    """Raise DataError unless the split has the model's inputs, by name if there are several, in their shapes."""
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
            hint = _axes_hint(shape, wanted[name].shape[1:]) or hint
            raise DataError(f"the data does not fit the model: {reason}", where=where, hint=hint)


def _axes_hint(sample: tuple[int, ...], wanted: tuple[int | None, ...]) -> str | None:
    """Return what to do where only axes differ; None if sizes do."""
    if (*sample, 1) == wanted:
        return "its last axis of one channel is missing: store x[..., None]"
    if sample != wanted and len(sample) > 1 and (*sample[1:], sample[0]) == wanted:
        return "its channels come first, the model's last: store numpy.moveaxis(x, 1, -1)"
    return None


def require_finite_inputs(split: Split) -> None:
    """Raise DataError, with its place, if a sample's inputs hold NaN or infinity: else later code would be blamed."""
    position = split.first_not_finite()
    if position is None:
        return
    index, name = position
    what = f"sample {index} of the {split.name} split holds NaN or infinity" + (f" in input {name!r}" if name else "")
    if split.rows is not None:
        what += f" (row {int(split.rows[index])} of what is stored)"
    raise DataError(what, where=f"data.{split.name}", hint="mend it or take it out; there may be more")


def require_class_labels(split: Split, why: str) -> None:
    """Raise PreconditionError unless the split's targets are class labels; `why` says what needs them."""
    if split.task != "classes":
        raise PreconditionError(f"{why} needs class labels, the {split.name} split is for {split.task}")


def _require_classes(split: Split, output: TensorSpec, where: str) -> None:
    _require_class_output(output)
    classes = max(output.shape[1] or 0, 2)  # one output distinguishes two classes
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


def _require_targets(split: Split, output: TensorSpec, where: str) -> None:
    shape, wanted = tuple(split.y.shape[1:]) or (1,), output.shape[1:]
    if len(shape) != len(wanted) or any(size not in (None, n) for size, n in zip(wanted, shape, strict=True)):
        raise DataError(
            f"targets are {shape} a sample, the model's output {output.name!r} is {wanted}",
            where=where,
            hint=f"data.task is {split.task}: is this the data that the model was trained on?",
        )
