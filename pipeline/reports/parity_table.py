"""Tabulate how close each exported file of a run is to Keras: a line for each file, output and set of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.records.facts import EvaluationFacts, ParityFacts, ParityRow
from pipeline.records.manifest import RunManifest
from pipeline.records.metrics import metric_and_output
from pipeline.reports.quality import quality_of, quality_text
from pipeline.reports.table import aligned

COLUMNS = ("", "inputs", "max diff", "mean diff", "SQNR", "cosine", "top-1", "top-5")


@dataclass(frozen=True, slots=True)
class Quality:
    """Hold the metric by which models are compared, such as `accuracy` or `mse[age]`, measured on `samples`."""

    metric: str
    value: float
    samples: int


def parity_rows(manifest: RunManifest) -> Iterator[tuple[str, ParityRow, Quality | None]]:
    """Yield the file as FORMAT/SCHEME, its figures, and on real inputs how good it is."""
    shown = _shown(manifest)
    for entry in manifest.stages:
        facts = [output.facts for output in entry.outputs]
        measured = next((fact for fact in facts if isinstance(fact, EvaluationFacts)), None)
        for fact in (fact for fact in facts if isinstance(fact, ParityFacts)):
            for row in fact.rows:
                # The first rows are of real inputs, which alone have a quality.
                on_real_inputs = measured is not None and row.inputs == fact.rows[0].inputs
                yield (
                    str(entry.axis),
                    row,
                    _quality(measured, row.output, shown) if measured and on_real_inputs else None,
                )


def _shown(manifest: RunManifest) -> tuple[str, ...]:
    """Return the metrics of the last column, of all files that were compared with Keras."""
    verified = (entry for entry in manifest.stages if any(isinstance(o.facts, ParityFacts) for o in entry.outputs))
    facts = [output.facts for entry in verified for output in entry.outputs]
    measured = (metric for fact in facts if isinstance(fact, EvaluationFacts) for metric in fact.metrics)
    return quality_of(measured, manifest.chosen_metrics)


def _quality(measured: EvaluationFacts, output: str, shown: tuple[str, ...]) -> Quality | None:
    """Return the metric of an output; with a single one it has no output in its name."""
    for metric in shown:
        if metric in measured.metrics and metric_and_output(metric)[1] in (None, output):
            return Quality(metric, measured.metrics[metric], measured.samples)
    return None


def parity_document(manifest: RunManifest) -> dict[str, Any]:
    """Return the matrix as a JSON-like document."""
    return {
        "schema_version": 2,
        "run_id": manifest.run_id,
        "parity": [
            {"export": export, **row.model_dump(mode="json"), "quality": asdict(quality) if quality else None}
            for export, row, quality in parity_rows(manifest)
        ],
    }


def parity_table(manifest: RunManifest) -> str:
    """Return the matrix as aligned text; several outputs are named. Empty without verified files."""
    rows = list(parity_rows(manifest))
    if not rows:
        return ""
    several = len({row.output for _, row, _ in rows}) > 1
    measured = {quality.metric for _, _, quality in rows if quality}
    metrics = dict.fromkeys(metric_and_output(metric)[0] for metric in _shown(manifest) if metric in measured)
    lines: list[tuple[str, ...]] = [(*COLUMNS, " · ".join(metrics))]
    before = ""
    for export, row, quality in rows:
        name = f"{export}:{row.output}" if several else export
        lines.append(("" if name == before else name, *_cells(row, quality)))
        before = name
    return aligned(lines, words={0, 1})


def _cells(row: ParityRow, quality: Quality | None) -> tuple[str, ...]:
    return (
        f"{row.inputs} {row.samples}",
        f"{row.max_abs_diff:.1e}",
        f"{row.mean_abs_diff:.1e}",
        "equal" if row.max_abs_diff == 0 else f"{row.sqnr_db:.1f} dB",
        f"{row.cosine:.6f}",
        _share(row.top1_agreement),
        _share(row.top5_agreement),
        "" if quality is None else quality_text(quality.metric, quality.value, quality.samples),
    )


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
