"""Find the fastest model that stays accurate enough, from a model file and data (`secateur optimize`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.errors import RecipeError
from pipeline.reports.table import count
from stages.commands.init import DataOption, ModelArgument, look, write_recipe
from stages.commands.search import ClusterOption, FolderOption, StorageOption, interruptible, search, workers_on
from stages.commands.target import target_named
from stages.devices.target import ProbingDriver, Target
from stages.formats.format import OnDevice
from stages.formats.registry import formats
from stages.quantize.config import FASTER_FORMAT
from stages.search.candidates import Candidate

if TYPE_CHECKING:
    from stages.commands.starting.first_look import Found
    from stages.commands.starting.first_recipe import Wanted

MaxDropOption = Annotated[
    float, typer.Option("--max-drop", min=0, max=1, help="How much accuracy may be lost: 0.01 is one point.")
]
TargetOption = Annotated[str, typer.Option("--target", metavar="T", help="Where it is to be fast: see `target list`.")]
TrialsOption = Annotated[int, typer.Option("--trials", min=1, help="Candidates at most.")]
MinutesOption = Annotated[float, typer.Option("--minutes", min=0.1, help="Time at most, about.")]
TrainOption = Annotated[
    bool, typer.Option("--training/--no-training", help="Fine-tune candidates, or re-fit them only.")
]
RECIPE = "recipe.yaml"
EXPORTED = ("tflite", "onnx")  # of the formats that a target takes


def command(
    model: ModelArgument,
    data: DataOption = None,
    max_drop: MaxDropOption = 0.01,
    target: TargetOption = "cpu",
    output: FolderOption = None,
    trials: TrialsOption = 40,
    minutes: MinutesOption = 30.0,
    training: TrainOption = True,
    cluster: ClusterOption = None,
    storage: StorageOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the fastest model that loses at most so much accuracy, from a model and data alone."""
    if data is None:
        hint = "--data names an npz with x_train (and y_train), a folder of images, a csv file or TFRecords"
        raise RecipeError("candidates are judged on data, and none is named", where="--data", hint=hint)
    from stages.commands.starting.first_recipe import Wanted

    device = target_named(target, Path())
    file_formats = exported_for(device)
    folder = output or Path(f"{model.stem}-front")
    if folder.exists() and not folder.is_dir():
        raise RecipeError("the front can't be written there", where=str(folder), hint="-o names a folder")
    opened = open_store(store)
    goal = f"{{constraints: {{accuracy_drop: {max_drop:g}}}, budget: {{trials: {trials}, minutes: {minutes:g}}}}}"
    # The cluster first: one that is away leaves no recipe behind.
    with interruptible(), workers_on(cluster, opened) as workers:
        wanted = Wanted(target, file_formats, training, tells_what_is_faster(device), goal)
        recipe = write_search(model, data, folder / RECIPE, wanted)
        code = search(Candidate(recipe, {}), folder, opened, workers, storage, as_json=as_json)
    raise typer.Exit(code)


def write_search(model: Path, data: Path, recipe: Path, wanted: Wanted) -> Path:
    """Write a recipe with a search, and say what it was written from; its folder is made."""
    found = _labelled(look(model, data, recipe.parent, changes=True), model, data, recipe.parent)
    recipe.parent.mkdir(parents=True, exist_ok=True)  # only now: bad input leaves no empty folder
    if found.data is not None:
        found = replace(found, data=found.data.for_a_search())
    write_recipe(found, model, recipe, wanted)
    typer.echo("\n".join(_told(found, recipe)), err=True)
    return recipe


def _labelled(found: Found, model: Path, data: Path, folder: Path) -> Found:
    """Return what was found; where there are no labels, the source's classes are taken for them."""
    if found.guess.unsuited is not None:
        raise RecipeError(f"candidates can't be judged: {found.guess.unsuited}", where=str(model))
    if found.data is None or found.data.labelled:
        return found
    from stages.commands.starting.first_data import THREADS
    from stages.commands.starting.first_guess import Preprocessing
    from stages.keras.tensorflow import tensorflow_action
    from stages.load import load_model
    from stages.search.agreement import label_by_source, telling_way

    if found.data.source != "npz":
        what = (
            f"the samples have no labels, and only those of an npz can be judged without; this is {found.data.source}"
        )
        raise RecipeError(what, where=str(data), hint="give labels, or an npz with x_train")
    ready = found.guess.preprocessing
    with tensorflow_action(seed=0, threads=THREADS):
        source = load_model(model).model
        way, largest, as_guessed = telling_way(source, data, ready.way)
        made = label_by_source(source, data, way, folder)
    if way != ready.way:
        reason = f"the source takes {largest:.1%} of samples for one class so, and {as_guessed:.1%} as was guessed"
        ready = Preprocessing.of(way, reason, certain=False)
    typer.echo(f"! {data} has no labels: accuracy is agreement with the source, on {made}", err=True)
    again = look(model, made, folder, changes=True)
    # The source is right under any preprocessing that its labels were made with.
    return replace(again, guess=found.guess.model_copy(update={"preprocessing": ready}), source=None)


def _told(found: Found, recipe: Path) -> Iterator[str]:
    """Say what was found of the model and its data."""
    guess, ready = found.guess, found.guess.preprocessing
    sure = f" · {ready.reason}" if ready.certain else ""
    yield f"{guess.name} · {count(guess.params)} params · {count(guess.macs)} MACs{sure}"
    if not ready.certain:
        yield f"! preprocess (check it): {ready.reason}"
    if found.data is not None:
        yield f"data: {found.data.words}"
        yield from (f"! {doubt}" for doubt in found.data.doubts)
    yield f"wrote {recipe}"


def tells_what_is_faster(target: Target) -> bool:
    """Return whether it can be measured on a target which layers of a TFLite file are faster in float32."""
    return formats()[FASTER_FORMAT].kind in target.formats and isinstance(target.driver, ProbingDriver)


def exported_for(target: Target) -> tuple[str, ...]:
    """Return the formats that are exported for a target; RecipeError if it takes none of them."""
    taken = tuple(
        name for name in EXPORTED if isinstance(formats()[name], OnDevice) and formats()[name].kind in target.formats
    )
    if not taken:
        what = (
            f"{target.name} takes {', '.join(target.formats)}, and candidates are exported as {' and '.join(EXPORTED)}"
        )
        raise RecipeError(what, where="--target", hint="write a recipe for it (secateur init), with `search:` in it")
    return taken
