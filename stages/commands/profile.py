"""Show what each operator of an exported file costs on a target, with its Keras layers (`secateur profile`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.errors import RecipeError
from pipeline.records.facts import KerasFacts, QuantizedFacts
from pipeline.reports.table import aligned
from pipeline.store import Store
from pipeline.store.lineage import makers
from stages.commands.compare import ShapeOption
from stages.commands.comparing.fitness import read_shapes
from stages.commands.comparing.operands import Model, Operand, find_operand
from stages.commands.target import target_named
from stages.formats.format import ProfiledHere, TellsOrigin
from stages.formats.registry import format_of_kind

if TYPE_CHECKING:
    from stages.devices.advice import Advised
    from stages.devices.profile import Origin, Profile
    from stages.devices.target import Target

USUAL = "tflite/int8"
BAR = 24  # characters of the longest bar
BLOCKS = " ▏▎▍▌▋▊▉█"
SCALES = {"instructions": (1e3, "thousand instructions"), "nanoseconds": (1e3, "µs")}

NameArgument = Annotated[
    str, typer.Argument(metavar="FILE|RUN", help="A file, a run (`latest:tflite/int8`), a digest.")
]
TargetOption = Annotated[str, typer.Option("--target", metavar="T", help="Where: cpu, an ssh target, or cortex-a72.")]
AdviseOption = Annotated[
    bool, typer.Option("--advise", help="Name int8 operators that cost more than in float32, why, and what helps.")
]
KerasOption = Annotated[
    Path | None,
    typer.Option("--model", metavar="FILE", help="The Keras model of an ONNX file, if the store no longer has it."),
]


def command(
    name: NameArgument,
    target: TargetOption = "cpu",
    advised: AdviseOption = False,
    keras: KerasOption = None,
    shape: ShapeOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each operator of a file costs: time, or instructions on an emulated core; or which cost too much."""
    where, shapes = target_named(target, Path()), read_shapes(shape or ())
    model = _model(find_operand(name, partial(open_store, store)))
    title = name if Path(name).is_file() else f"{model.label} of {name}"
    from stages.devices.advice import advise
    from stages.devices.profile import profile, require_profiling

    require_profiling(where)
    if shapes:
        _require_free(where, model, shapes)
    with _origin(model, keras, partial(open_store, store)) as origin:
        if advised:
            found = advise(where, model.path, title, origin)
            typer.echo(found.model_dump_json(indent=1) if as_json else advice_text(found, title))
            return
        profiled = profile(where, model.path, title, origin, _by_input(shapes))
    typer.echo(profiled.model_dump_json(indent=1) if as_json else table(profiled, title))


def _require_free(target: Target, model: Model, shapes: Sequence[str]) -> None:
    """Raise RecipeError if no shape can be chosen: operators are cut apart at the sizes in the file."""
    if not isinstance(format_of_kind(model.kind), ProfiledHere) or target.kind != "cpu":
        what = f"{format_of_kind(model.kind).name} files on {target.name} are profiled at their own sizes"
        raise RecipeError(what, where=f"--shape {shapes[0]}", hint="export the model with fixed sizes")


def _by_input(shapes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Parse `NAME=1,24,24,3` by name; `1,24,24,3` has no name."""
    parted = [text.rpartition("=") for text in shapes]
    return {name: tuple(map(int, sizes.split(","))) for name, _, sizes in parted}


def _model(operand: Operand) -> Model:
    """Return the requested model; of a run with several, `tflite/int8`, or else the first."""
    return next((model for model in operand.models if model.label == USUAL), operand.models[0])


@contextmanager
def _origin(model: Model, keras_file: Path | None, open_the_store: Callable[[], Store]) -> Iterator[Origin | None]:
    """Yield what a file was made from: the given Keras model, or from the store the one that the file names; or None.

    Also None if the file's operators carry the names of their layers.
    """
    file_format = format_of_kind(model.kind)
    if not isinstance(file_format, TellsOrigin):
        yield None
        return
    stored, calibration = _stored_origin(file_format.origin(model.path), open_the_store())
    source = keras_file or stored
    if source is None:
        typer.echo("layers are not known: name the Keras model that the file was made of by --model", err=True)
        yield None
        return
    from stages.devices.profile import Origin
    from stages.keras.normal_form import decode_model, random_inputs
    from stages.keras.tensorflow import tensorflow_action
    from stages.load import load_model
    from stages.samples.calibration import decode_samples

    with tensorflow_action(seed=0, threads=2):
        keras_model = load_model(keras_file).model if keras_file else decode_model(source)
        samples = [decode_samples(path)[:1] for path in calibration] or random_inputs(keras_model, samples=1)
        yield Origin(keras_model, dict(zip(keras_model.input_names, samples, strict=True)))


def _stored_origin(digest: str | None, store: Store) -> tuple[Path | None, list[Path]]:
    """Return the Keras model of a digest, and the samples that it was calibrated on, if kept."""
    from stages.keras.normal_form import MODEL_FILE
    from stages.samples.calibration import calibration_files

    source, calibration = None, list[Path]()
    for _, artifact in makers(store).values():
        facts = artifact.facts
        if isinstance(facts, KerasFacts) and artifact.digest == digest:
            source = store.blobs.path(artifact.file(MODEL_FILE).digest)
        elif isinstance(facts, QuantizedFacts) and facts.model_digest == digest and facts.calibration is not None:
            names = calibration_files(len(artifact.files) - 1)
            calibration = [store.blobs.path(artifact.file(name).digest) for name in names]
    return source, calibration


def table(found: Profile, title: str) -> str:
    """Format a line per operator: its cost, its share, a bar, its layers; the total below."""
    divisor, unit = SCALES[found.unit]
    most = max((operator.cost for operator in found.operators), default=0.0) or 1.0
    rows = [("operator", unit, "share", "", "layers")]
    for operator in found.operators:
        share = operator.cost / found.total if found.total else 0.0
        layers = " + ".join(operator.layers) or operator.name[:40]
        rows.append(
            (operator.kind, f"{operator.cost / divisor:,.1f}", f"{share:.1%}", bar(operator.cost / most), layers)
        )
    head = f"{title} on {found.target}, {found.runtime}"
    foot = f"{found.total / divisor:,.1f} {unit} in {len(found.operators)} operators"
    return f"{head}\n\n{aligned(rows, words={0, 3, 4})}\n\n{foot}"


def advice_text(found: Advised, title: str) -> str:
    """Format each operator that costs more than it should, with the reason and what helps; the sum below."""
    divisor, unit = SCALES[found.unit]
    if not found.runtime:
        return f"{title} on {found.target}: nothing to compare, no operator computes in 8 bits"
    parts = [f"{title} on {found.target}, {found.runtime}"]
    for advice in found.advice:
        layers = " + ".join(advice.layers) or advice.name[:40]
        costs = f"{advice.cost / divisor:,.1f} {unit}, in float32 {advice.float_cost / divisor:,.1f}"
        parts.append(f"{advice.kind} of {layers}: {costs}\n  why    {advice.why}\n  helps  {advice.helps}")
    lost = sum(advice.lost for advice in found.advice)
    share = lost / found.total if found.total else 0.0
    parts.append(
        f"{lost / divisor:,.1f} of {found.total / divisor:,.1f} {unit} ({share:.0%}) are lost in 8 bits"
        if found.advice
        else "no operator costs notably more than in float32"
    )
    return "\n\n".join(parts)


def bar(share: float) -> str:
    """Draw a bar of up to 24 characters, in steps of an eighth."""
    eighths = round(max(0.0, share) * BAR * 8)
    return (BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8]).rstrip()
