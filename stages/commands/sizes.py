"""Parse `--sizes`: values for the sizes that a model leaves open, as in a recipe's `model: {sizes: …}`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from pipeline.errors import RecipeError
from pipeline.recipe.model_spec import FreeSizes

SETTING = "--sizes"
FORM = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<numbers>[1-9][0-9]{0,5}(?:,[1-9][0-9]{0,5})*)")

SizesOption = Annotated[
    list[str] | None,
    typer.Option(SETTING, metavar="N,…", help="Sizes that the model leaves open: 64, 64,48 or INPUT=64,48."),
]


def read_sizes(texts: Sequence[str] | None) -> FreeSizes | None:
    """Parse the `--sizes` options, None for none; RecipeError if one is not a size or they conflict."""
    by_input: dict[str, int | tuple[int, ...]] = {}
    for text in texts or ():
        form = FORM.fullmatch(text)
        if form is None:
            hint = "64 for all of them, 64,48 for one each, INPUT=64,48 for one input"
            raise RecipeError(f"{text!r} are not sizes", where=SETTING, hint=hint)
        numbers = tuple(map(int, form["numbers"].split(",")))
        by_input[form["name"] or ""] = numbers if len(numbers) > 1 else numbers[0]
    if "" in by_input and len(texts or ()) > 1:
        raise RecipeError("sizes are said twice", where=SETTING, hint="name the input of each: INPUT=64,48")
    return by_input[""] if "" in by_input else (dict(by_input) or None)
