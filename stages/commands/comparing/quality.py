"""Evaluate both files of a pair on a recipe's test data, in their own runtimes; npz data needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.contracts.events import ActionEvents
from pipeline.data import Split
from pipeline.data.source import data_source
from pipeline.errors import DataError, RecipeError
from pipeline.recipe.recipe import Recipe
from stages.commands.comparing.operands import Model
from stages.commands.comparing.pairing import Pair

BATCH = 256


def labelled_test_data(recipe_file: Path) -> Split:
    """Return the test data of a recipe; RecipeError if it has none."""
    recipe = Recipe.load(recipe_file)
    if recipe.data is None or not recipe.data.judged:
        what = "the recipe has no test data"
        raise RecipeError(what, where=str(recipe_file), hint="`test: …` under `data:` names it")
    split = data_source(recipe.data, recipe.folder, recipe.seed).split("test")
    if not split.labelled:
        raise RecipeError("the test data has no labels: there is no accuracy", where=str(recipe_file))
    return split


def with_quality(pair: Pair, split: Split, events: ActionEvents) -> Pair:
    """Return the pair with the metrics of both files on `split`."""
    return replace(
        pair,
        baseline=_measured(pair.baseline, split, f"baseline {pair.baseline.title}", events),
        candidate=_measured(pair.candidate, split, f"candidate {pair.candidate.title}", events),
    )


def _measured(model: Model, split: Split, title: str, events: ActionEvents) -> Model:
    import numpy as np

    from stages.formats.apart.runtimes import load_apart
    from stages.keras.inputs import by_input
    from stages.samples.batches import misfit
    from stages.verify.metrics import DEFAULTS, evaluate

    loaded = load_apart(model.kind, model.path, 0, f"accuracy of the {title}", events)
    names = [spec.name for spec in loaded.inputs]
    batch_shapes = [(1, *shape) for shape in split.input_shapes()]
    # `strict=False`: another number of inputs is reported below.
    misfits = [misfit(shape, spec) for shape, spec in zip(batch_shapes, loaded.inputs, strict=False)]
    wrong = next(filter(None, misfits), None)
    if wrong or len(names) != len(batch_shapes):
        what = wrong or f"the data has {len(batch_shapes)} inputs, the model {len(names)}"
        raise DataError(what, where=title, hint="name the recipe that the model comes from")
    output = _labelled_output(split, [spec.name for spec in loaded.outputs], title)
    seen, parts = split.of_output(output), []
    for inputs, _ in split.batches(BATCH):
        arrays = zip(names, by_input(inputs, names), loaded.inputs, strict=True)
        outputs = loaded.run({name: array.astype(_type(spec.dtype), copy=False) for name, array, spec in arrays})
        parts.append(outputs[output])
        events.advanced(sum(map(len, parts)), len(split), f"accuracy of the {title.partition(' ')[0]}")
    metric = DEFAULTS[seen.kind][0]
    quality = evaluate(np.concatenate(parts), seen.y, seen.kind, (metric,)).metrics
    return replace(model, quality=quality, tested_on=split.digest)


def _labelled_output(split: Split, outputs: Sequence[str], title: str) -> str:
    """Return the only output that has labels; DataError if there is none, or more than one."""
    labelled = outputs if split.output_names is None else [name for name in outputs if name in split.output_names]
    if len(labelled) != 1:
        what = f"accuracy is compared of one output; this model has {', '.join(outputs)}"
        labels = (
            "labels without a name" if split.output_names is None else f"labels for {', '.join(split.output_names)}"
        )
        hint = f"name data with labels for one of them alone: here are {labels}"
        raise DataError(what, where=title, hint=hint)
    return labelled[0]


def _type(dtype: str) -> str:
    """Return the input type to feed: real numbers for a quantized input, since the runtime's side converts them."""
    return "float32" if dtype in ("int8", "uint8", "int16") else dtype
