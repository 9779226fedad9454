"""Show what `secateur bench --append` kept (`secateur history`), as a table with a picture, or for other tools."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from pipeline.cli.options import JsonOption
from pipeline.errors import RecipeError, SecateurError
from pipeline.recipe.errors import nearest
from pipeline.store.files import publish
from stages.commands.histories.github_action_benchmark import exported, undeclared
from stages.commands.histories.picture import svg_of, text_of
from stages.commands.histories.record import Entry, read_history

Form = Literal["text", "json", "svg", "github-action-benchmark"]
FORMS = list(get_args(Form))
BENCHMARK_ACTION = "github-action-benchmark"

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A history, as `bench --append` writes it.")]
FormOption = Annotated[str, typer.Option("--format", metavar="F", help=f"{', '.join(FORMS)}.")]
MetricOption = Annotated[str | None, typer.Option("--metric", metavar="M", help="Default: p50, or the target's count.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there, not to stdout.")
]


def command(
    file: FileArgument,
    form: FormOption = "text",
    metric: MetricOption = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show and draw a history of measurements, or export it."""
    form = "json" if as_json else form
    if form not in FORMS:
        raise RecipeError(f"there is no format {form!r}", where="--format", hint=nearest(form, FORMS))
    history = read_history(file)
    for line in history.damaged:
        typer.echo(f"! {line}; left out", err=True)
    _check_metric(history.entries, metric, file)
    if form == "json":
        text = json.dumps(
            {
                "schema_version": 1,
                "entries": [entry.model_dump(mode="json") for entry in history.entries],
                "damaged": history.damaged,
            },
            ensure_ascii=False,
            indent=1,
        )
    elif form == "text":
        text = text_of(history.entries, metric)
    else:
        text = (svg_of if form == "svg" else exported)(history.entries, metric)
        if form == BENCHMARK_ACTION and metric is None:
            for name in undeclared(history.entries):
                warning = f"! {name}: nothing installed declares whether less of it is better"
                typer.echo(f"{warning}; left out, unless --metric names it", err=True)
    _put_out(text, output)


def _check_metric(entries: tuple[Entry, ...], metric: str | None, file: Path) -> None:
    known = sorted({name for entry in entries for name in entry.metrics})
    if not entries:
        raise RecipeError("the history is empty", where=str(file), hint="secateur bench FILE --append fills it")
    if metric is not None and metric not in known:
        raise RecipeError(f"no entry has a metric {metric!r}", where="--metric", hint=nearest(metric, known))


def _put_out(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text.rstrip("\n") + "\n")
        return
    try:
        publish(output, text.encode(), output.resolve().parent)
    except OSError as error:
        raise SecateurError(f"the file can't be written: {error.strerror or error}", where=str(output)) from error
