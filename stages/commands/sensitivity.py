"""Measure what each channel group alone costs in accuracy (`secateur sensitivity`), as a page to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import JsonOption, RecipeArgument, SetOption, StoreOption, open_store
from pipeline.cli.run import execute
from pipeline.errors import RecipeError, SecateurError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.steps import StageStep
from pipeline.running.run import Run
from stages.prune.config import PruneConfig
from stages.prune.sensitivity.stage import REPORT_FILE, SensitivityStage

SCAN = SensitivityStage.name

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML page to write.", show_default=True)
]


def command(
    recipe: RecipeArgument,
    output: OutputOption = Path("sensitivity.html"),
    overrides: SetOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy over the pruning ratio for each channel group, and draw it."""
    loaded = scan_recipe(Recipe.load(recipe, tuple(overrides or ())))
    opened = open_store(store)
    if output.is_dir() or not output.parent.is_dir():
        raise RecipeError("the page can't be written there", where=str(output), hint="name a file in a folder that is")
    work = Run(loaded, opened, fail_fast=True)  # only the page is wanted
    execute(work)
    report = work.resolution.results[SCAN].output("sensitivity-report")
    data = opened.blobs.path(report.file(REPORT_FILE).digest).read_bytes()
    from stages.prune.sensitivity.page import page_of
    from stages.prune.sensitivity.scan import SensitivityReport

    try:
        output.write_text(page_of(SensitivityReport.model_validate_json(data), loaded.name), encoding="utf-8")
    except OSError as error:
        raise SecateurError(f"the page can't be written: {error}", where=str(output)) from error
    typer.echo(data.decode() if as_json else f"wrote {output}")


def scan_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe up to its first pruning, which is replaced by a scan that ranks channels in the same way."""
    prunings = ((step, step.config) for step in recipe.steps if isinstance(step.config, PruneConfig))
    step, config = next(prunings, (None, None))
    if step is None or config is None:
        file = str(recipe.source.file)
        raise RecipeError("the recipe prunes nothing", where=file, hint="add `- prune` to its stages")
    before = tuple(earlier for earlier in recipe.steps[: step.index] if earlier.stage != SCAN)
    scan = StageStep(SCAN, SCAN, config.scan_or_default, len(before), step.path)
    return replace(recipe, steps=(*before, scan), gates=(), control=False)
