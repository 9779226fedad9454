"""Check that data, model and settings fit together, before any work: errors name the split, layer or setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data import Split
from pipeline.errors import PreconditionError
from pipeline.records.facts import KerasFacts
from stages.finetune.config import Augment, FinetuneConfig
from stages.keras.sparsity import SparsityPlan
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    from numpy.typing import NDArray


def require_teacher(student: KerasFacts, teacher: KerasFacts) -> None:
    """Raise PreconditionError unless both have the same output shapes for the same input shapes."""
    for name, ours, its in (("outputs", student.outputs, teacher.outputs), ("inputs", student.inputs, teacher.inputs)):
        shapes, wanted = [spec.shape for spec in ours], [spec.shape for spec in its]
        if shapes != wanted:
            what = f"the model's {name} are {shapes}, the teacher's {wanted}: it can't be learned from"
            hint = "distil before the model's head is changed, or leave finetune.distill out"
            raise PreconditionError(what, where="finetune.distill", hint=hint)


def require_images(split: Split, settings: Augment) -> None:
    """Raise PreconditionError if images are to be augmented and samples are not images, or are smaller than a shift."""
    if settings == Augment():
        return
    shape, *others = split.input_shapes()
    if others or len(shape) != 3:
        what = "inputs are not images (height, width, channels)"
        raise PreconditionError(what, where="finetune.augment", hint="leave augment out: it flips, crops and shifts")
    if settings.crop >= min(shape[:2]):
        what = f"a crop of {settings.crop} pixels could leave nothing of images of {shape[0]}×{shape[1]}"
        raise PreconditionError(what, where="finetune.augment.crop", hint="an eighth of the size is usual")


def require_blendable(model: KerasModel, config: FinetuneConfig) -> None:
    """Raise PreconditionError if mixup is to blend integer inputs."""
    if config.mixup and not all(tensor.dtype.is_floating for tensor in model.inputs):
        what = "inputs are whole numbers, which can't be blended"
        raise PreconditionError(what, where="finetune.mixup", hint="leave mixup out")


def require_no_plan(plan: SparsityPlan | None, config: FinetuneConfig) -> None:
    """Raise PreconditionError if channels are to shrink in a model whose single weights follow a plan of sparsity."""
    if plan is not None and config.regularize:
        what = "the model keeps a plan of single zeros, which no cut of channels would keep"
        hint = "leave regularize out, or put it before a structured prune"
        raise PreconditionError(what, where="finetune.regularize", hint=hint)


def class_weights(config: FinetuneConfig, split: Split, outputs: int) -> NDArray[Any] | None:
    """Return the weight of each class of one output, float32 (classes,), or None; `balanced` equalizes all classes.

    PreconditionError for a class that the model does not have.
    """
    import numpy as np

    if config.class_weights is None:
        return None
    classes = max(outputs, 2)  # one output distinguishes two classes
    if config.class_weights == "balanced":
        counts = np.bincount(np.asarray(split.y).ravel(), minlength=classes)
        # At least 1: a class without samples has a weight that is never used.
        return (len(split) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)
    weights = np.ones(classes, np.float32)
    for label, weight in config.class_weights.items():
        if label >= classes:
            what = f"there is no class {label}: the model's {classes} classes are 0 to {classes - 1}"
            raise PreconditionError(what, where="finetune.class_weights", hint="classes count from 0")
        weights[label] = weight
    return weights
