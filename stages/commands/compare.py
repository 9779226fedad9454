"""Compare two files, runs or artifacts (`secateur compare`), measured in turns; the exit code is the verdict."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.contracts.events import Started
from pipeline.errors import RecipeError
from pipeline.recipe.errors import nearest
from pipeline.recipe.recipe import Recipe
from pipeline.reports.progress import Progress
from stages.commands.comparing.compared import compared
from stages.commands.comparing.engine import Request, compare
from stages.commands.comparing.fitness import read_shapes
from stages.commands.comparing.forms import FORMS, Form
from stages.commands.comparing.github import github_of, recipe_of, write_summary
from stages.commands.comparing.operands import Operand, find_operand
from stages.commands.comparing.result import EXIT_CODES, ComparisonReport
from stages.commands.comparing.tolerances import read_tolerances
from stages.commands.target import target_named
from stages.devices.target import Sampling, Target

OPERAND = "A file, a run (`ID`, `latest`, or `ID:tflite/int8`), or an artifact's digest; looked up in that order."
SECONDS = 0.05  # per process: rounds narrow the interval, seconds hardly do

BaseArgument = Annotated[str, typer.Argument(metavar="BASE", help=OPERAND, show_default=False)]
CandidateArgument = Annotated[str, typer.Argument(metavar="CANDIDATE", help="The same.", show_default=False)]
ToleranceOption = Annotated[
    list[str] | None,
    typer.Option("--tolerance", metavar="T", help="How much worse is fine: 5%, or size=0% for one. Default 5%."),
]
TargetOption = Annotated[
    list[str] | None, typer.Option("--target", metavar="T", help="Where to measure; repeatable. Default: cpu.")
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="M", help=f"Judge these alone; repeatable: {', '.join(compared())}."),
]
RoundsOption = Annotated[int, typer.Option("--rounds", min=2, help="Rounds; once as many again if they can't tell.")]
SecondsOption = Annotated[float, typer.Option("--seconds", min=0.001, help="Of samples in each process.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="For the runtime's kernels.")]
ShapeOption = Annotated[
    list[str] | None, typer.Option("--shape", metavar="NAME=1,224,224,3", help="Of inputs of free size; repeatable.")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="RECIPE", help="Compare accuracy on this recipe's test data.")
]
RecipeOption = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="Whose gates GitHub's annotations point at; found by itself."),
]
FormOption = Annotated[str, typer.Option("--format", metavar="F", help=f"{', '.join(get_args(Form))}.")]
FolderOption = Annotated[Path, typer.Option("--folder", help="Where targets are looked up first.", show_default="this")]


def command(
    base: BaseArgument,
    candidate: CandidateArgument,
    tolerance: ToleranceOption = None,
    target: TargetOption = None,
    metric: MetricOption = None,
    rounds: RoundsOption = 10,
    seconds: SecondsOption = SECONDS,
    threads: ThreadsOption = 1,
    shape: ShapeOption = None,
    data: DataOption = None,
    recipe: RecipeOption = None,
    form: FormOption = "text",
    folder: FolderOption = Path(),
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two models, interleaved; the exit code is the verdict."""
    form = "json" if as_json else form
    if form not in get_args(Form):
        raise RecipeError(f"there is no format {form!r}", where="--format", hint=nearest(form, list(get_args(Form))))
    request = Request(
        targets=find_targets(target or ["cpu"], folder),
        sampling=Sampling(seconds=seconds, threads=threads, shapes=read_shapes(shape or ())),
        rounds=rounds,
        tolerances=read_tolerances(tolerance or ()),
        metrics=_metrics(metric),
        data=data,
    )
    gates = Recipe.load(recipe) if recipe else None
    opened = partial(open_store, store)
    sides = find_operand(base, opened), find_operand(candidate, opened)
    with Progress(sys.stderr, []) as progress:
        progress(Started("compare", f"{rounds} rounds, once as many again where they can't tell"))
        report = compare(*sides, request, progress)
    typer.echo(_in_form(report, form, sides, gates))
    raise typer.Exit(EXIT_CODES[report.verdict])


def _metrics(names: list[str] | None) -> frozenset[str] | None:
    for name in names or ():
        if name not in compared():
            hint = nearest(name, list(compared()))
            raise RecipeError(f"there is no metric {name!r}", where=f"--metric {name}", hint=hint)
    return frozenset(names) if names else None


def find_targets(names: list[str], folder: Path) -> list[Target]:
    """Return the targets with these names, each once."""
    return [target_named(name, folder) for name in dict.fromkeys(names)]


def _in_form(report: ComparisonReport, form: str, sides: tuple[Operand, Operand], gates: Recipe | None) -> str:
    if form != "github":
        return FORMS[form](report)
    write_summary(report)
    return github_of(report, gates or recipe_of((sides[1].run, sides[0].run), Path.cwd()))
