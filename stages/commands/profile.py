"""`secateur profile`: what each operator of an exported file costs on a target, with the Keras layers in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.summary import aligned
from stages.benchmark.target import find_target
from stages.comparison.operands import Model, Operand, find_operand

if TYPE_CHECKING:
    from stages.benchmark.profile import Profile

USUAL = "tflite/int8"
BAR = 24  # characters of the longest bar
BLOCKS = " ▏▎▍▌▋▊▉█"
SCALES = {"instructions": (1e3, "thousand instructions"), "nanoseconds": (1e3, "µs")}

NameArgument = Annotated[
    str, typer.Argument(metavar="FILE|RUN", help="A file, a run (`latest:tflite/int8`), a digest.")
]
TargetOption = Annotated[str, typer.Option("--target", metavar="T", help="Where: cpu, an ssh target, or cortex-a72.")]


def command(
    name: NameArgument,
    target: TargetOption = "cpu",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """What each operator of a file costs: time, or instructions on an emulated core."""
    where = find_target(target, Path())
    model = _model(find_operand(name, partial(open_store, store)))
    title = name if Path(name).is_file() else f"{model.label} of {name}"
    from stages.benchmark.profile import profile

    found = profile(where, model.path, title)
    typer.echo(found.model_dump_json(indent=1) if as_json else table(found, title))


def _model(operand: Operand) -> Model:
    """The one model that is meant; of a run with several `tflite/int8`, or else the first."""
    return next((model for model in operand.models if model.label == USUAL), operand.models[0])


def table(found: Profile, title: str) -> str:
    """A line an operator: its cost, its share, a bar, the layers in it; the whole below."""
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


def bar(share: float) -> str:
    """A bar of up to 24 characters, in eighths of one."""
    eighths = round(max(0.0, share) * BAR * 8)
    return (BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8]).rstrip()
