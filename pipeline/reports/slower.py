"""Say which measured int8 files are slower than float32, the operators that cost it, and what helps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import numbered
from pipeline.records.facts import OperatorLoss
from pipeline.records.manifest import RunManifest
from pipeline.records.speed import Slower, slower_files
from pipeline.reports.command_lines import secateur

SHOWN = 3  # operators of a file


def slower_than_float(manifest: RunManifest, store: Path | None = None) -> list[str]:
    """Return a note for each file and target, slowest first, each with the command that measures all operators.

    `store` is where the command looks for the run.
    """
    return ["\n".join(_lines(found, manifest.run_id, store)) for found in slower_files(manifest.stages)]


def _lines(found: Slower, run_id: str, store: Path | None) -> Iterator[str]:
    pair, _, target = found.axis.partition("@")
    yield f"slower than float32: {pair} on {target}, ×{found.ratio:.2f} of {found.reference}"
    if found.losses:
        yield from (f"  {_described(loss)}" for loss in found.losses[:SHOWN])
        yield f"  helps: {found.losses[0].helps}"
    elif found.losses is not None:
        yield "  no single operator costs notably more: many small ones do, or conversions"
    command = secateur("profile", f"{run_id}:{pair}", "--target", target, "--advise", store=store)
    more = len(found.losses or ()) - SHOWN
    asked = numbered(more, "more operator") if more > 0 else "why"
    yield f"  {asked}: {command}"


def _described(loss: OperatorLoss) -> str:
    of = f" of {' + '.join(loss.layers)}" if loss.layers else ""
    return f"{loss.kind}{of} costs ×{loss.cost / loss.float_cost:.2f} of float32"
