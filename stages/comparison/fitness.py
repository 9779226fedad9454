"""Whether a target can take what it is given; asked before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.errors import RecipeError
from stages.comparison.operands import Model

if TYPE_CHECKING:
    from stages.benchmark.target import Sampling, Target


def require_fit(target: Target, models: Iterable[Model], sampling: Sampling) -> None:
    """RecipeError where a target does not take a model's format, or counts and is given shapes."""
    for model in models:
        if model.kind not in target.formats:
            what = f"{target.name} takes {' and '.join(target.formats)} only"
            raise RecipeError(what, where=model.title, hint="secateur target list")
    if sampling.shapes and target.counts:
        what = f"{target.name} counts files whose inputs have fixed sizes, and takes no --shape"
        raise RecipeError(what, where=f"--shape {sampling.shapes[0]}", hint="export the model with fixed sizes")
