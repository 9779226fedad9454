"""Whether data, model and settings go together, before any work: errors name the split, the layer or the setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.artifacts import KerasFacts
from pipeline.data import Split
from pipeline.errors import DataError, PreconditionError
from stages.data_checks import require_fit
from stages.finetune.config import Augment, FinetuneConfig
from stages.finetune.objective import task_of
from stages.samples import misfit


def require_trainable(facts: KerasFacts) -> None:
    """PreconditionError unless the model has one output, of shape (batch, numbers)."""
    shapes = [output.shape for output in facts.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][-1] is None:
        what = f"fine-tuning is of models with one output (batch, numbers), this one gives {shapes}"
        raise PreconditionError(what, where="finetune", hint="cut the model off at the output that is to be trained")


def require_teacher(student: KerasFacts, teacher: KerasFacts) -> None:
    """PreconditionError unless both give outputs of one shape for inputs of one shape."""
    for name, ours, its in (("outputs", student.outputs, teacher.outputs), ("inputs", student.inputs, teacher.inputs)):
        shapes, wanted = [spec.shape for spec in ours], [spec.shape for spec in its]
        if shapes != wanted:
            what = f"the model's {name} are {shapes}, the teacher's {wanted}: it can't be learned from"
            hint = "distil before the model's head is changed, or leave finetune.distill out"
            raise PreconditionError(what, where="finetune.distill", hint=hint)


def require_data(split: Split, facts: KerasFacts) -> None:
    """DataError unless the split's inputs and targets are what the model takes and gives."""
    if task_of(split) == "classes" and len(facts.inputs) == 1:
        require_fit(split, facts)
        return
    import numpy as np

    where = f"data.{split.name}"
    if len(split) == 0:
        raise DataError("the split holds no samples", where=where)
    inputs, targets = split.take(np.arange(1))
    by_name = inputs if isinstance(inputs, Mapping) else {facts.inputs[0].name: inputs}
    wanted = {spec.name: spec for spec in facts.inputs}
    if set(by_name) != set(wanted):
        what = f"the data has the inputs {', '.join(sorted(by_name))}, the model {', '.join(sorted(wanted))}"
        raise DataError(what, where=where, hint="name the data's inputs as the model's are named")
    for name, spec in wanted.items():
        reason = misfit(np.shape(by_name[name]), spec)
        if reason:
            raise DataError(f"the data does not fit the model: {reason}", where=where, hint="reshape or resize it")
    outputs = facts.outputs[0].shape[1] or 0
    what = ""
    if task_of(split) == "classes":
        low, high = int(np.min(split.y)), int(np.max(split.y))
        if low < 0 or high >= max(outputs, 2):
            what = f"labels run from {low} to {high}, the model has {max(outputs, 2)} classes"
    elif task_of(split) != "unlabelled" and np.shape(targets)[1:] != (outputs,):
        what = f"targets have shape {np.shape(targets)[1:]} a sample, the model gives {outputs} numbers"
    if what:
        raise DataError(what, where=where, hint="is this the data that the model was trained on?")


def require_images(inputs: Any, settings: Augment) -> None:
    """PreconditionError where images are to be augmented and inputs (a batch) are none, or smaller than a move."""
    if settings == Augment():
        return
    shape: tuple[int, ...] = getattr(inputs, "shape", ())
    if len(shape) != 4:
        what = "inputs are no images (height, width, channels)"
        raise PreconditionError(what, where="finetune.augment", hint="leave augment out: it flips, crops and shifts")
    if settings.crop >= min(shape[1:3]):
        what = f"a crop of {settings.crop} pixels could leave nothing of images of {shape[1]}×{shape[2]}"
        raise PreconditionError(what, where="finetune.augment.crop", hint="an eighth of the size is usual")


def require_blendable(inputs: Any, config: FinetuneConfig) -> None:
    """PreconditionError where mixup is to blend inputs (a batch) that are whole numbers."""
    import numpy as np

    parts = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    if config.mixup and not all(np.issubdtype(part.dtype, np.floating) for part in parts):
        what = "inputs are whole numbers, which can't be blended"
        raise PreconditionError(what, where="finetune.mixup", hint="leave mixup out")


def class_weights(config: FinetuneConfig, split: Split, outputs: int) -> Any:
    """The weight of each class, float32 (classes,), or None; `balanced` lets all classes count alike.

    PreconditionError for a class that the model does not have.
    """
    import numpy as np

    if config.class_weights is None:
        return None
    classes = max(outputs, 2)  # one output tells two classes apart
    if config.class_weights == "balanced":
        counts = np.bincount(np.asarray(split.y).ravel(), minlength=classes)
        return (len(split) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)
    weights = np.ones(classes, np.float32)
    for label, weight in config.class_weights.items():
        if label >= classes:
            what = f"there is no class {label}: the model's {classes} classes are 0 to {classes - 1}"
            raise PreconditionError(what, where="finetune.class_weights", hint="classes count from 0")
        weights[label] = weight
    return weights
