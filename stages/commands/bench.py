"""Measure latency or counts of individual model files (`secateur bench`); `--append` feeds `secateur history`."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store, print_json
from pipeline.contracts.events import ActionEvents, Started
from pipeline.errors import numbered
from pipeline.records.values import Value
from pipeline.reports.progress import Progress
from pipeline.reports.table import aligned
from stages.commands.compare import FolderOption, SecondsOption, ShapeOption, ThreadsOption
from stages.commands.comparing.absolute import bench
from stages.commands.comparing.fitness import read_shapes
from stages.commands.comparing.operands import Model, find_operand
from stages.commands.histories.figures import ENDS, INTERVAL, said
from stages.commands.histories.record import Entry, append, commit_of, now, require_place
from stages.commands.target import target_named
from stages.devices.target import Sampling, device_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.store import Store

SECONDS = 0.1
FilesArgument = Annotated[
    list[str], typer.Argument(metavar="FILE...", help=".tflite or .onnx files, runs, artifacts.", show_default=False)
]
TargetOption = Annotated[str, typer.Option("--target", metavar="T", help="Where to measure.")]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, help="Fresh processes of each file, in turns.")]
AppendOption = Annotated[
    Path | None, typer.Option("--append", metavar="HISTORY", help="Also add a line a file to this history.")
]


class BenchReport(Value):
    """Define what `--json` prints."""

    schema_version: Literal[1] = 1
    entries: tuple[Entry, ...]


def command(
    files: FilesArgument,
    target: TargetOption = "cpu",
    rounds: RoundsOption = 10,
    seconds: SecondsOption = SECONDS,
    threads: ThreadsOption = 1,
    shape: ShapeOption = None,
    append_to: AppendOption = None,
    folder: FolderOption = Path(),
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure model files on a target."""
    if append_to is not None:
        require_place(append_to)
    resolved = target_named(target, folder)
    device = device_fingerprint(resolved)
    models = _models(files, partial(open_store, store))
    sampling = Sampling(seconds=seconds, threads=threads, shapes=read_shapes(shape or ()))
    with Progress(sys.stderr, []) as progress:
        progress(Started("bench", numbered(rounds, "round")))
        results = bench(models, resolved, sampling, rounds, ActionEvents("bench", progress))
    time, commit = now(), commit_of(Path())
    entries = tuple(
        Entry(
            time=time,
            commit=commit,
            name=model.label,
            digest=model.digest,
            target=resolved.name,
            device=device,
            runtime=runtime,
            rounds=0 if resolved.counts else rounds,
            metrics=figures,
        )
        for model, (runtime, figures) in zip(models, results, strict=True)
    )
    if append_to is not None:
        append(append_to, entries)
    if as_json:
        print_json(BenchReport(entries=entries))
    else:
        typer.echo(_table(entries))


def _models(names: list[str], open_store: Callable[[], Store]) -> list[Model]:
    """Return all models of all operands, each under a unique name."""
    models = [(name, model) for name in names for model in find_operand(name, open_store).models]
    labels = Counter(model.label for _, model in models)
    return [replace(model, label=_full(name, model)) if labels[model.label] > 1 else model for name, model in models]


def _full(name: str, model: Model) -> str:
    return name if model.path == Path(name).expanduser() else f"{name}:{model.label}"


def _table(entries: tuple[Entry, ...]) -> str:
    """Format a line per model and a column per figure, with the interval next to its median."""
    names = [name for name in dict.fromkeys(name for entry in entries for name in entry.metrics) if name not in ENDS]
    lines = [["", *(head_of(name) for name in names)]]
    lines += [[entry.name, *(_cell(entry, name) for name in names)] for entry in entries]
    first = entries[0]
    runtimes = ", ".join(dict.fromkeys(entry.runtime for entry in entries))
    basis = numbered(first.rounds, "round") if first.rounds else "counted"
    return f"{aligned(lines, words={0})}\n\n{first.target}: {_device(first)}, {runtimes}, {basis}"


def head_of(metric: str) -> str:
    """Return a metric's name without its unit, which is printed next to each number."""
    return metric.removeprefix("latency_").removesuffix("_ms").removesuffix("_bytes")


def _cell(entry: Entry, name: str) -> str:
    if name not in entry.metrics:
        return ""
    ends = [f"{entry.metrics[end]:.4g}" for end in INTERVAL.get(name, ()) if end in entry.metrics]
    return said(name, entry.metrics[name]) + (f" [{', '.join(ends)}]" if ends else "")


def _device(entry: Entry) -> str:
    return ", ".join(entry.device.values())
