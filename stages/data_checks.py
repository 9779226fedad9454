"""Whether data fits a model, checked before either is used on the other."""

from __future__ import annotations

from pipeline.artifacts import KerasFacts
from pipeline.data import Split
from pipeline.errors import DataError


def check_split(split: Split, facts: KerasFacts) -> None:
    """DataError where the split's inputs or labels do not fit the model's signature."""
    check_inputs(split, facts)
    classes = facts.outputs[0].shape[-1] if facts.outputs else None
    highest = int(split.y.max())
    if classes is not None and highest >= classes:
        raise DataError(
            f"the {split.name} split has the label {highest}, the model tells {classes} classes apart",
            where=f"model output {facts.outputs[0].name}",
            hint=f"labels count from 0 to {classes - 1}: check the labels, or load a model with {highest + 1} outputs",
        )


def check_inputs(split: Split, facts: KerasFacts) -> None:
    """DataError where the split's inputs do not have the shape of the model's one input."""
    if len(facts.inputs) != 1:
        names = ", ".join(spec.name for spec in facts.inputs)
        what = f"the model has {len(facts.inputs)} inputs ({names}), an npz split feeds one"
        raise DataError(what, hint="models with one input are supported so far")
    wanted, got = facts.inputs[0].shape[1:], tuple(split.x.shape[1:])
    fits = len(wanted) == len(got) and all(size in (None, have) for size, have in zip(wanted, got, strict=True))
    if not fits:
        raise DataError(
            f"the {split.name} split has inputs of shape {_shape(got)}, the model takes {_shape(wanted)}",
            where=f"model input {facts.inputs[0].name}",
            hint="resize or reshape the data, or load a model that takes this shape",
        )


def _shape(shape: tuple[int | None, ...]) -> str:
    return "×".join("any" if size is None else str(size) for size in shape) or "one number"
