"""Check that a target can take the given models, before anything is measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import RecipeError, listed
from stages.commands.comparing.operands import Model

if TYPE_CHECKING:
    from stages.devices.target import Sampling, Target


SHAPE = re.compile(r"(.+=)?[1-9][0-9]*(,[1-9][0-9]*)*")


def read_shapes(texts: Sequence[str]) -> tuple[str, ...]:
    """Convert `--shape` options to the runner's form; RecipeError if one is not a shape."""
    for text in texts:
        if not SHAPE.fullmatch(text):
            hint = "NAME=1,224,224,3, or 1,224,224,3 for whatever the input is called"
            raise RecipeError(f"{text!r} is not a shape", where="--shape", hint=hint)
    return tuple(texts)


def require_fit(target: Target, models: Iterable[Model], sampling: Sampling) -> None:
    """Raise RecipeError if a target does not take a model's format, or takes no shapes and is given some."""
    for model in models:
        if model.kind not in target.formats:
            what = f"{target.name} takes {listed(target.formats, 'and')} only"
            raise RecipeError(what, where=model.title, hint="secateur target list")
    if sampling.shapes and not target.takes_shapes:
        what = f"{target.name} takes files whose inputs have fixed sizes, and no --shape"
        raise RecipeError(what, where=f"--shape {sampling.shapes[0]}", hint="export the model with fixed sizes")
