"""Tabulate how close each exported file of a run is to Keras: a line for each file, output and set of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.records.facts import EvaluationFacts, ParityFacts, ParityRow
from pipeline.records.manifest import RunManifest
from pipeline.records.metrics import of_output
from pipeline.reports.table import aligned, wilson_half_width

COLUMNS = ("", "inputs", "max diff", "mean diff", "SQNR", "cosine", "top-1", "top-5", "accuracy")


def parity_rows(manifest: RunManifest) -> Iterator[tuple[str, ParityRow, float | None, int | None]]:
    """Yield the file as FORMAT/SCHEME, its figures, and on real inputs its accuracy with the number of samples."""
    for entry in manifest.stages:
        facts = [output.facts for output in entry.outputs]
        measured = next((fact for fact in facts if isinstance(fact, EvaluationFacts)), None)
        for fact in (fact for fact in facts if isinstance(fact, ParityFacts)):
            several = len({row.output for row in fact.rows}) > 1
            for row in fact.rows:
                # The first rows are of real inputs, which alone have an accuracy.
                evaluation = measured if row.inputs == fact.rows[0].inputs else None
                metric = of_output("accuracy", row.output if several else None)
                accuracy = evaluation.metrics.get(metric) if evaluation else None
                yield str(entry.axis), row, accuracy, evaluation.samples if evaluation else None


def parity_document(manifest: RunManifest) -> dict[str, Any]:
    """Return the matrix as a JSON-like document."""
    return {
        "schema_version": 1,
        "run_id": manifest.run_id,
        "parity": [
            {"export": export, **row.model_dump(mode="json"), "accuracy": accuracy, "accuracy_samples": samples}
            for export, row, accuracy, samples in parity_rows(manifest)
        ],
    }


def parity_table(manifest: RunManifest) -> str:
    """Return the matrix as aligned text; several outputs are named. Empty without verified files."""
    rows = list(parity_rows(manifest))
    if not rows:
        return ""
    several = len({row.output for _, row, _, _ in rows}) > 1
    lines: list[tuple[str, ...]] = [COLUMNS]
    before = ""
    for export, row, accuracy, samples in rows:
        name = f"{export}:{row.output}" if several else export
        lines.append(("" if name == before else name, *_cells(row, accuracy, samples)))
        before = name
    return aligned(lines, words={0, 1})


def _cells(row: ParityRow, accuracy: float | None, samples: int | None) -> tuple[str, ...]:
    shown = ""
    if accuracy is not None:
        shown = f"{100 * accuracy:.2f}"
        if samples:
            shown += f" ± {100 * wilson_half_width(accuracy, samples):.1f}"
    return (
        f"{row.inputs} {row.samples}",
        f"{row.max_abs_diff:.1e}",
        f"{row.mean_abs_diff:.1e}",
        "equal" if row.max_abs_diff == 0 else f"{row.sqnr_db:.1f} dB",
        f"{row.cosine:.6f}",
        _share(row.top1_agreement),
        _share(row.top5_agreement),
        shown,
    )


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
