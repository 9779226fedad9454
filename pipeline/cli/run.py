"""Implement `secateur run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, TextIO

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
from pipeline.errors import SecateurError, numbered
from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import RunManifest
from pipeline.reports.progress import Progress
from pipeline.reports.table import closing
from pipeline.running.run import Run
from pipeline.start import INTERRUPTED

FailFastOption = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first failure, also what does not depend on it.")
]
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 5, "failed": 4}


def command(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    store: StoreOption = None,
    until: UntilOption = None,
    force_from: ForceOption = None,
    fail_fast: FailFastOption = False,
    as_json: JsonOption = False,
) -> None:
    loaded = Recipe.load(recipe, tuple(overrides or ()))
    opened = open_store(store)
    work = Run(loaded, opened, until, force_from, fail_fast=fail_fast)
    try:
        manifest = execute(work)
    except SecateurError as error:
        if work.manifest is not None:
            _print_end(work.manifest, opened.root, as_json=as_json)
            error.printed = as_json
        raise
    except KeyboardInterrupt:
        if as_json and work.manifest is not None:
            print_json(work.manifest)
        print("interrupted: what is finished stays cached; the same command goes on from there", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    _print_end(manifest, opened.root, as_json=as_json)
    raise typer.Exit(EXIT_CODES[manifest.verdict])


def _print_end(manifest: RunManifest, store: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(manifest)
    else:
        print(f"\n{closing(manifest, store)}", flush=True)  # before anything goes to stderr


def execute(work: Run) -> RunManifest:
    """Execute the run, with progress on standard error."""
    ids = [node.id for node in work.resolution.chain.nodes]
    # A separate descriptor: converters that write to file descriptor 2 from C++ are silenced there, progress is not.
    with _own_stderr() as stream, Progress(stream, ids) as progress:
        progress.line(f"{work.resolution.recipe.name} · store {work.store.root} · {numbered(len(ids), 'action')}")
        for remark in work.resolution.remarks:
            progress.line(f"! {remark}")
        for axis, reason in work.resolution.chain.skipped.items():
            progress.line(f"! {axis} is left out: {reason}")
        return work.execute(progress)


def _own_stderr() -> TextIO:
    """Open standard error under a separate descriptor; the null device if it is closed."""
    try:
        return os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="replace")
    except (OSError, AttributeError):
        return Path(os.devnull).open("w")
