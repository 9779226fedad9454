"""Write a first recipe for a model (`secateur init`), based on what the model itself tells."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.options import JsonOption, print_json
from pipeline.contracts.events import ActionEvents, Started
from pipeline.errors import DataError, RecipeError, SecateurError
from pipeline.recipe.recipe import Recipe
from pipeline.records.values import Value
from pipeline.reports.command_lines import note_of, secateur
from pipeline.reports.progress import Progress
from pipeline.reports.table import count
from pipeline.store.files import publish

if TYPE_CHECKING:
    from stages.commands.starting.first_look import Found
    from stages.commands.starting.first_recipe import Wanted

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.", show_default=False)]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The recipe to write.", show_default=True)
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="An npz (x_train, y_train), a folder of images, a csv or TFRecords: it is checked.",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the recipe if it is there.")]
FILL_IN = "path: data.npz"


class InitReport(Value):
    """Define what `--json` prints: where the recipe is, what was guessed and measured, what to fill in, what is next.

    `data` and `source` are None without data.
    """

    schema_version: Literal[1] = 1
    recipe: str
    guess: dict[str, object]
    data: dict[str, object] | None
    source: dict[str, object] | None
    fill_in: tuple[str, ...]
    next: str


def command(
    model: ModelArgument,
    output: OutputOption = Path("recipe.yaml"),
    data: DataOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a first recipe for a model, guessed from the model itself."""
    _check_output(output, force=force)
    from stages.commands.starting.first_recipe import Wanted

    found = look(model, data, output.parent)
    text = write_recipe(found, model, output, Wanted())
    report = InitReport(
        recipe=str(output),
        guess=found.guess.model_dump(mode="json"),
        data=None if found.data is None else found.data.model_dump(mode="json"),
        source=None if found.source is None else found.source.model_dump(mode="json"),
        fill_in=("data.path",) if FILL_IN in text and found.data is None else (),
        next=secateur("plan", output),
    )
    if as_json:
        print_json(report)
    else:
        typer.echo(_told(found, report, text))


def look(model: Path, data: Path | None, folder: Path, *, changes: bool = False) -> Found:
    """Look at the model, and at its data if there is any: those that are named have to fit.

    With `changes`, it is measured which changes of images the model does not mind; a search trains with them.
    """
    from stages.commands.starting.first_data import THREADS, beside, known_shapes
    from stages.commands.starting.first_guess import guess
    from stages.commands.starting.first_look import Found, look_at_data
    from stages.keras.free_sizes import Wanted
    from stages.keras.tensorflow import tensorflow_action
    from stages.load import load_model

    asked = data is not None
    data = data or beside(folder)
    shapes = known_shapes(data) if data is not None else ()
    with tensorflow_action(seed=0, threads=THREADS), Progress(sys.stderr, []) as progress:
        progress(Started("init", "loading the model"))
        loaded = load_model(model, wanted=Wanted(samples=shapes))
        guessed = guess(loaded.model, str(model), loaded.notes, keeps_zeros=loaded.sparsity is not None)
        if data is None:
            return Found(guessed)
        try:
            return look_at_data(loaded.model, guessed, data, folder, ActionEvents("init", progress), changes=changes)
        except DataError as error:
            if asked:
                raise
            return Found(guessed.noting(f"{data} is not used, since it does not fit: {error.what}"))


def write_recipe(found: Found, model: Path, output: Path, wanted: Wanted) -> str:
    """Write the recipe, and return its text; SecateurError if it can't be written."""
    from stages.commands.starting.first_recipe import recipe_name, recipe_text

    name, path = recipe_name(model.stem), _relative(model, output.parent)
    text = recipe_text(found, path, name, wanted)
    _write(output, text)
    return text


def _check_output(output: Path, *, force: bool) -> None:
    """Raise RecipeError if the recipe can't be written, before anything heavy is imported."""
    if output.is_dir() or not output.parent.is_dir():
        raise RecipeError(
            "the recipe can't be written there", where=str(output), hint="name a file in a folder that is"
        )
    if output.exists() and not force:
        raise RecipeError("the file is there already", where=str(output), hint="--force replaces it; -o names another")


def _relative(model: Path, folder: Path) -> str:
    """Return the model's path relative to the recipe's folder; absolute if no relative path exists."""
    try:
        return Path(os.path.relpath(model.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return model.resolve().as_posix()


def _write(output: Path, text: str) -> None:
    """Check the recipe as `run` would read it, then write it atomically."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        draft = Path(folder) / output.name
        draft.write_text(text, encoding="utf-8")
        Recipe.load(draft)
    try:
        publish(output, text.encode(), output.parent)
    except OSError as error:
        raise SecateurError(f"the recipe can't be written: {error.strerror or error}", where=str(output)) from error


def _told(found: Found, report: InitReport, text: str) -> str:
    from stages.commands.starting.first_preprocessing import table_of
    from stages.commands.starting.first_recipe import pruning_words

    guessed, held = found.guess, found.data
    ready = guessed.preprocessing
    preparation = f"mode {ready.mode}" if ready.mode else f"times {ready.scale:.4g}" if ready.scale else "none"
    preparation += f" plus {ready.offset:.4g}" if ready.offset else ""
    check = "" if ready.certain else " (check it)"
    least = "at least " if guessed.macs_unknown else ""
    lines = [f"{guessed.name} · {count(guessed.params)} params · {least}{count(guessed.macs)} MACs"]
    for entry in guessed.inputs:
        shape = "×".join("?" if size is None else str(size) for size in entry.shape[1:])
        lines.append(f"input       {entry.name} {shape} {entry.dtype}")
    for output in guessed.outputs:
        of = "" if len(guessed.outputs) == 1 else f"{output.name}: "
        lines.append(f"task        {of}{output.task}: {output.reason}")
    if held is not None:
        lines.append(f"data        {held.path} ({held.source}): {held.words}")
        lines += [f"            {doubt}" for doubt in held.doubts]
    if not guessed.unsuited:
        lines.append(f"preprocess  {preparation}{check}: {ready.reason}")
    if found.source is not None:
        lines += [f"            {line}" for line in table_of(found.source)]
        lines += [f"source      not measured: {found.source.unmeasured}"] if found.source.unmeasured else []
    groups, share = f"{guessed.prunable_groups} of {guessed.groups}", guessed.prunable_share
    pruned = f"{groups} channel groups, at most {share:.0%} of the MACs"
    if guessed.pruning is not None and not guessed.keeps_zeros:
        lines.append(f"prune       leaves {pruning_words(guessed.pruning)} ({pruned} can go)")
    else:
        lines.append(f"prune       {pruned} can go")
    lines += [*(f"note        {note}" for note in guessed.notes), f"wrote {report.recipe}"]
    if report.fill_in:
        number = next(i for i, line in enumerate(text.splitlines(), 1) if FILL_IN in line)
        lines.append(f"  fill in   data.path: {report.recipe}:{number}")
    lines.append(f"  {report.next}   says what would run")
    note = note_of(report.next)
    return "\n".join([*lines, f"  {note}"] if note else lines)
