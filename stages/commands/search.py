"""Search for the best recipe like this one, or run all of its `sweep` (`secateur search`), here or on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import JsonOption, RecipeArgument, SetOption, StoreOption, open_store, print_json
from pipeline.errors import RecipeError, numbered
from pipeline.recipe.recipe import Recipe
from pipeline.reports.progress import Progress
from pipeline.start import INTERRUPTED
from pipeline.store import Store
from stages.search.candidates import Candidate
from stages.search.workers import Here, Workers

if TYPE_CHECKING:
    from stages.search.answer import Answer

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="A",
        help="Run on Dask workers: tcp://HOST:PORT of a scheduler, or local:N for N processes here.",
        show_default=False,
    ),
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="For the front's recipes and picture; beside the recipe."),
]


def _can_be_used(storage: str | None) -> str | None:
    """Raise StoreError if a database can't be used: minutes pass before a study needs it."""
    if storage is not None:
        from stages.search.explore import open_storage

        open_storage(storage)
    return storage


StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage", metavar="URL", help="Optuna's database; a file in the store by default.", callback=_can_be_used
    ),
]
PICTURE = "front.svg"
NOT_REACHED, INCONCLUSIVE = 1, 5
EXAMPLE = "`search: {constraints: {accuracy_drop: 0.01}}`, or `sweep: {stages.prune.ratio: [0.3, 0.5], seed: [1, 2]}`"


def command(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    output: FolderOption = None,
    cluster: ClusterOption = None,
    storage: StorageOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the fastest recipe like this one that keeps its accuracy, or run all of a sweep."""
    said = tuple(overrides or ())
    base, opened = Recipe.load(recipe, said), open_store(store)
    if base.search is None and base.sweep is None:
        raise RecipeError("the recipe has no search and no sweep", where=str(recipe), hint=f"add {EXAMPLE}")
    with interruptible(), workers_on(cluster, opened) as workers:
        if base.sweep is not None:
            code = _sweep(base, said, workers, opened, as_json=as_json)
        else:
            folder = output or recipe.resolve().parent / f"{base.name}-front"
            code = search(Candidate(recipe, {}, said), folder, opened, workers, storage, as_json=as_json)
    raise typer.Exit(code)


def search(base: Candidate, folder: Path, store: Store, workers: Workers, storage: str | None, *, as_json: bool) -> int:
    """Search, and print the answer; recipes and the picture go into `folder`. Return the exit code."""
    from stages.search.answer import answered
    from stages.search.picture import svg_of
    from stages.search.progress import StudyProgress
    from stages.search.study import Study
    from stages.search.table import text_of

    study = Study(base, store, workers, storage)
    with StudyProgress(sys.stderr) as progress:
        progress.say(f"{base.recipe().name} · store {store.root} · goal: {study.goal}")
        found = study.run(progress)
        progress.say("● the front runs as it is, on test data, once")
        answer = answered(base, found, store, workers, folder)
    (folder / PICTURE).write_text(svg_of(answer), encoding="utf-8")
    if as_json:
        print_json(answer)
    else:
        typer.echo(text_of(answer))
    return exit_code(answer)


def exit_code(answer: Answer) -> int:
    """Return 0 if a point meets the goal, or there is none to meet; 1 if none does; 5 if test data contradict it."""
    if answer.max_drop is None:
        return 0
    chosen = next((point for point in answer.points if point.letter == answer.chosen), None)
    if chosen is None:
        return NOT_REACHED
    lost = chosen.test.drop if chosen.test is not None else None
    return INCONCLUSIVE if lost is not None and lost > answer.max_drop else 0


def _sweep(base: Recipe, said: tuple[str, ...], workers: Workers, store: Store, *, as_json: bool) -> int:
    from stages.search.sweep import read_sweep, sweep_table

    sweep = read_sweep(base, said)
    with Progress(sys.stderr, []) as progress:
        progress.line(f"{base.name} · store {store.root} · {numbered(len(sweep.recipes), 'recipe')}")
        report = sweep.run(workers, progress, progress.line)
    if as_json:
        print_json(report)
    else:
        typer.echo(f"\n{sweep_table(report)}")
    return report.exit_code


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn a Ctrl-C into the exit code of interruptions, and say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted: what is finished stays cached; the same command goes on from there", err=True)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def workers_on(cluster: str | None, store: Store) -> Iterator[Workers]:
    """Yield the workers of a cluster, or this process; until it ends, the results of all runs are kept."""
    with store.leases.hold():
        if cluster is None:
            yield Here(store)
            return
        from stages.search.cluster.address import open_cluster

        with open_cluster(cluster, store) as workers:
            yield workers
