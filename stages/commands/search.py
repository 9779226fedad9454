"""Search for the best recipe like this one (`secateur search`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import JsonOption, RecipeArgument, SetOption, StoreOption, open_store, print_json
from pipeline.recipe.recipe import Recipe
from pipeline.start import INTERRUPTED
from stages.search.answer import Answer, answered
from stages.search.candidates import Base
from stages.search.picture import svg_of
from stages.search.progress import StudyProgress
from stages.search.study import Study
from stages.search.table import text_of
from stages.search.workers import Here

FolderOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="For recipes and the picture; NAME-front beside the recipe."),
]
StorageOption = Annotated[
    str | None, typer.Option("--storage", metavar="URL", help="Optuna's database; a file in the store by default.")
]
REACHED, NOT_REACHED = 0, 1


def command(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    output: FolderOption = None,
    storage: StorageOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the fastest recipe like this one that keeps its accuracy."""
    said = tuple(overrides or ())
    base = Base(recipe, said, Recipe.load(recipe, said), storage)
    folder = output or recipe.resolve().parent / f"{base.recipe.name}-front"
    answer = search(base, folder, store)
    if as_json:
        print_json(answer)
    else:
        typer.echo(text_of(answer))
    raise typer.Exit(REACHED if answer.chosen or answer.max_drop is None else NOT_REACHED)


def search(base: Base, folder: Path, store: Path | None) -> Answer:
    """Search, with progress on standard error; write recipes and the picture into `folder`."""
    opened = open_store(store)
    workers = Here(opened)
    study = Study(base, opened, workers)
    progress = StudyProgress(sys.stderr, f"{base.recipe.name}: {study.goal}")
    try:
        found = study.run(progress)
        progress.said("testing the front, once")
        answer = answered(base, found, opened, workers, folder)
    except KeyboardInterrupt:
        progress.close()
        typer.echo("interrupted: what is finished stays cached; the same command goes on from there", err=True)
        raise typer.Exit(INTERRUPTED) from None
    progress.close()
    (folder / "front.svg").write_text(svg_of(answer), encoding="utf-8")
    return answer
