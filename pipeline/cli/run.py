"""`secateur run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

import typer

from pipeline.cli.options import (
    ForceOption,
    JsonOption,
    RecipeArgument,
    SetOption,
    StoreOption,
    UntilOption,
    open_store,
    print_json,
)
from pipeline.errors import SecateurError
from pipeline.manifest import RunManifest
from pipeline.progress import Progress
from pipeline.recipe import Recipe
from pipeline.runner import Run
from pipeline.start import INTERRUPTED
from pipeline.summary import closing

EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 5, "failed": 4}


def command(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    store: StoreOption = None,
    until: UntilOption = None,
    force_from: ForceOption = None,
    as_json: JsonOption = False,
) -> None:
    loaded = Recipe.load(recipe, tuple(overrides or ()))
    opened = open_store(store)
    work = Run(loaded, opened, until, force_from)
    try:
        manifest = execute(work)
    except SecateurError as error:
        error.printed = _print_unfinished(work, as_json=as_json)
        raise
    except KeyboardInterrupt:
        _print_unfinished(work, as_json=as_json)
        print("interrupted: what is finished stays cached; the same command goes on from there", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(manifest)
    else:
        print(f"\n{closing(manifest, f' --store {store}' if store else '')}")
    raise typer.Exit(EXIT_CODES[manifest.verdict])


def execute(work: Run) -> RunManifest:
    """Run it, with progress on standard error."""
    ids = [node.id for node in work.resolution.chain.nodes]
    # Of its own: converters that write to file descriptor 2 from C++ are silenced there, progress is not.
    with _own_stderr() as stream, Progress(stream, ids) as progress:
        progress.line(f"{work.resolution.recipe.name} · store {work.store.root} · {len(ids)} actions")
        for axis, reason in work.resolution.chain.skipped.items():
            progress.line(f"! {axis} is left out: {reason}")
        return work.execute(progress)


def _own_stderr() -> TextIO:
    """Standard error under a number of its own; nowhere, if it is closed."""
    try:
        return os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="replace")
    except (OSError, AttributeError):
        return Path(os.devnull).open("w")


def _print_unfinished(work: Run, *, as_json: bool) -> bool:
    """The manifest of a run that did not end, where JSON was asked for; whether it was printed."""
    if as_json and work.manifest is not None:
        print_json(work.manifest)
        return True
    return False
