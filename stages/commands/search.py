"""Run many recipes from one (`secateur search`): all of its `sweep`, here or on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pipeline.cli.options import JsonOption, RecipeArgument, SetOption, StoreOption, open_store, print_json
from pipeline.errors import numbered
from pipeline.recipe.recipe import Recipe
from pipeline.reports.progress import Progress
from pipeline.start import INTERRUPTED
from pipeline.store import Store
from stages.search.sweep import read_sweep, sweep_table
from stages.search.workers import Here, Workers

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="A",
        help="Run on Dask workers: tcp://HOST:PORT of a scheduler, or local:N for N processes here.",
        show_default=False,
    ),
]


def command(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    cluster: ClusterOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run all recipes of a recipe's `sweep`, shared actions once, and compare them."""
    base = Recipe.load(recipe, tuple(overrides or ()))
    sweep, opened = read_sweep(base, tuple(overrides or ())), open_store(store)
    try:
        with Progress(sys.stderr, []) as progress, workers_on(cluster, opened) as workers:
            place = f" · cluster {cluster}" if cluster else ""
            progress.line(f"{base.name} · store {opened.root}{place} · {numbered(len(sweep.recipes), 'recipe')}")
            report = sweep.run(workers, progress, progress.line)
    except KeyboardInterrupt:
        typer.echo("interrupted: what is finished stays cached; the same command goes on from there", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(report)
    else:
        typer.echo(f"\n{sweep_table(report)}")
    raise typer.Exit(report.exit_code)


@contextmanager
def workers_on(cluster: str | None, store: Store) -> Iterator[Workers]:
    """Yield the workers of a cluster, or this process."""
    if cluster is None:
        yield Here(store)
        return
    from stages.search.cluster.address import open_cluster

    with open_cluster(cluster, store) as workers:
        yield workers
