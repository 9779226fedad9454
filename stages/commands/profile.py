"""`secateur profile`: what each operator of an exported file costs on a target, with the Keras layers in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.export import wanted_files
from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.errors import RecipeError, StoreError
from pipeline.recipe_errors import nearest
from pipeline.summary import aligned
from stages.benchmark.target import find_target

if TYPE_CHECKING:
    from stages.benchmark.profile import Profile

BAR = 24  # characters of the longest bar
BLOCKS = " ▏▎▍▌▋▊▉█"
SCALES = {"instructions": (1e3, "thousand instructions"), "nanoseconds": (1e3, "µs")}

NameArgument = Annotated[str, typer.Argument(metavar="FILE|RUN", help="A TFLite or ONNX file, a run, or `latest`.")]
TargetOption = Annotated[str, typer.Option("--target", metavar="T", help="Where: cpu, an ssh target, or cortex-a72.")]
ExportOption = Annotated[
    str | None, typer.Option("--export", metavar="FORMAT/SCHEME", help="Which file of a run; tflite/int8.")
]


def command(
    name: NameArgument,
    target: TargetOption = "cpu",
    export: ExportOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """What each operator of a file costs: time, or instructions on an emulated core."""
    where = find_target(target, Path())
    path, title = _found(name, export, store)
    from stages.benchmark.profile import profile

    found = profile(where, path, title)
    typer.echo(found.model_dump_json(indent=1) if as_json else table(found, title))


def _found(name: str, export: str | None, store_folder: Path | None) -> tuple[Path, str]:
    """The file that is meant, and what it is called."""
    if Path(name).is_file():
        if export is not None:
            raise RecipeError("--export chooses among a run's files, and this is a file", where=name)
        return Path(name), name
    store = open_store(store_folder)
    manifest = store.runs.get(name)
    if manifest is None:
        raise RecipeError(f"{name!r} is neither a file nor a run", hint="secateur store ls   lists runs")
    files = {file.rpartition("/")[0]: digest for file, digest in wanted_files(manifest).items()}
    exports = sorted(axis for axis in files if not axis.startswith("keras/"))
    wanted = export or ("tflite/int8" if "tflite/int8" in exports else next(iter(exports), ""))
    if wanted not in exports:
        hint = nearest(wanted, exports) if exports else "its recipe exports nothing, or failed before"
        raise RecipeError(f"run {manifest.run_id} has no export {wanted!r}", hint=hint)
    problem = store.blobs.problem(files[wanted])
    if problem:
        hint = "run the recipe again: what made it will run"
        raise StoreError(f"a blob is {problem}", where=files[wanted], hint=hint)
    return store.blobs.path(files[wanted]), f"{wanted} of run {manifest.run_id}"


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
