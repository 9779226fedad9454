"""Render the table at the end of a run, from its manifest alone: a row per step, as text to paste anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import first_few, first_line
from pipeline.records.declared import comparison
from pipeline.records.delivered import wanted_files
from pipeline.records.facts import CountsWeights, EvaluationFacts, HasNotes, KeepsState, KerasFacts, LatencyFacts
from pipeline.records.manifest import SOURCE, GateResult, RunManifest, StageEntry
from pipeline.records.metrics import MACS, MACS_UNKNOWN, PARAMS, SIZE, metric_and_output, name_and_metric
from pipeline.records.roles import evaluates, files_of, is_baseline, makes_files, measures, on_exports, proves
from pipeline.records.weight_types import LEAST_SHARE, NARROW, narrow_share
from pipeline.reports.command_lines import note_of, secateur
from pipeline.reports.quality import quality_of, quality_text, short_text
from pipeline.reports.slower import slower_than_float

WORTH_TELLING = 0.01  # the share of zeros in a model above which it is shown
OUTPUTS_SHOWN = 3
WIDTH = 100
FAILED = "failed"
MISSING = "–"  # of one of several outputs
MOVED = 1.1  # ratio of the source's latency between benchmarks from which the table mentions it
COLUMNS = ("", "accuracy", "params", "MACs", "size", "p50", "against source")
QUALITY = 1  # the column headed by the metric by which models are compared


@dataclass(frozen=True, slots=True)
class Row:
    """Hold what is known of one model: None if a column does not apply.

    `quality` has, as (metric, value), the number by which models are compared, of each output if there are several: the
    same metrics in all rows of a table, None where this model has no such number.
    """

    name: str
    quality: tuple[tuple[str, float | None], ...] = ()
    samples: int | None = None
    params: float | None = None
    macs: float | None = None
    macs_at_least: bool = False  # `macs` is a lower bound
    size_bytes: float | None = None
    p50_ms: float | None = None
    against: str = ""
    failures: tuple[str, ...] = ()


def rows(manifest: RunManifest) -> list[Row]:
    """Return Keras models first, then the baselines of latency, then the exports; a failure is in its model's row."""
    keras: dict[str, Row] = {}
    baselines: dict[str, Row] = {}
    exports: dict[str, Row] = {}
    for entry in manifest.stages:
        group = baselines if is_baseline(entry) else exports if on_exports(entry) else keras
        name = _row_name(entry)
        row, failures = _row(name, entry, manifest), _failures(name, entry)
        if row is not None or failures:
            before = group.get(name, Row(name))
            group[name] = replace(row or before, failures=(*before.failures, *failures))
    return _with_quality([*keras.values(), *baselines.values(), *exports.values()], manifest)


def _with_quality(found: Sequence[Row], manifest: RunManifest) -> list[Row]:
    """Return the rows with the metrics to show that any of them has."""
    known = sorted({name_and_metric(full)[1] for full in manifest.metrics})
    values = {
        metric: [manifest.metrics.get(f"{row.name}.{metric}") for row in found]
        for metric in quality_of(known, manifest.chosen_metrics)
    }
    shown = [metric for metric in values if any(value is not None for value in values[metric])]
    return [
        replace(row, quality=tuple((metric, values[metric][index]) for metric in shown))
        for index, row in enumerate(found)
    ]


def _row_name(entry: StageEntry) -> str:
    """Return the row that holds an action's figures, or its failure."""
    if is_baseline(entry):
        return f"{SOURCE} {entry.axis}"
    if on_exports(entry):
        return str(entry.axis).partition("@")[0]
    return entry.id.partition(":")[2] if evaluates(entry) else entry.id


def _row(name: str, entry: StageEntry, manifest: RunManifest) -> Row | None:
    """Return what an action reports about its model; None if nothing."""
    if evaluates(entry) and (entry.metrics or entry.status == "failed"):
        return _keras_row(name, entry, manifest)
    if not files_of(entry):
        return None
    return (_baseline_row if is_baseline(entry) else _export_row)(name, entry, manifest)


def _failures(name: str, entry: StageEntry) -> tuple[str, ...]:
    """Return `verify: the outputs differ …`, if it failed."""
    if entry.status != "failed":
        return ()
    device = str(entry.axis).partition("@")[2]
    reason = first_line(entry.reason)
    return (reason if name.startswith(entry.stage) else f"{entry.stage}{f' on {device}' if device else ''}: {reason}",)


def _keras_row(name: str, entry: StageEntry, manifest: RunManifest) -> Row:
    params, macs, size_bytes = (manifest.metrics.get(f"{name}.{metric.name}") for metric in (PARAMS, MACS, SIZE))
    ratio = manifest.metrics.get(f"{name}.{comparison(MACS.name)}")
    against = "1.00" if name == SOURCE else f"{ratio:.2f} × MACs" if ratio is not None else ""
    sparsity = _sparsity(name, manifest)
    if sparsity >= WORTH_TELLING:
        against += f", {sparsity:.0%} zeros"
    samples, least = _samples([entry]), f"{name}.{MACS_UNKNOWN.name}" in manifest.metrics
    return Row(
        name,
        samples=samples,
        params=params,
        macs=macs,
        macs_at_least=least,
        size_bytes=size_bytes,
        against=against,
    )


def _sparsity(name: str, manifest: RunManifest) -> float:
    """Return the share of zeros in the kernels of the Keras model that the stage called `name` made."""
    facts = [output.facts for entry in manifest.stages if entry.id == name for output in entry.outputs]
    return next((fact.sparsity for fact in facts if isinstance(fact, KerasFacts)), 0.0)


def _samples(entries: Iterable[StageEntry]) -> int | None:
    facts = [output.facts for entry in entries for output in entry.outputs]
    return next((fact.samples for fact in facts if isinstance(fact, EvaluationFacts)), None)


def _baseline_row(name: str, entry: StageEntry, manifest: RunManifest) -> Row:
    latencies = _latencies(manifest, f"{_format(entry)}/")
    if not latencies:
        return Row(name, size_bytes=_size(entry))
    return Row(name, size_bytes=_size(entry), p50_ms=latencies[0].baseline_p50_ms, against="1.00")


def _notes_on_baselines(manifest: RunManifest) -> list[str]:
    """Note where the source's latency changed between benchmarks: its row shows only the first."""
    notes = []
    for name in dict.fromkeys(_format(entry) for entry in manifest.stages if is_baseline(entry) and makes_files(entry)):
        latencies = _latencies(manifest, f"{name}/")
        medians = [latency.baseline_p50_ms for latency in latencies if latency.target == latencies[0].target]
        if medians and max(medians) > MOVED * min(medians):
            span = f"{min(medians):.3f} to {max(medians):.3f} ms"
            notes.append(f"the source's {name} file took {span}: each file is compared with it in the same rounds")
    return notes


def _format(entry: StageEntry) -> str:
    return str(entry.axis).partition("/")[0]


def _export_row(name: str, entry: StageEntry, manifest: RunManifest) -> Row:
    latencies = _latencies(manifest, name + "@")
    checks = [e for e in manifest.stages if proves(e) and e.axis == name]
    return Row(
        name,
        samples=_samples(checks),
        params=manifest.metrics.get(f"{name}.{PARAMS.name}"),
        macs=manifest.metrics.get(f"{name}.{MACS.name}"),
        macs_at_least=f"{name}.{MACS_UNKNOWN.name}" in manifest.metrics,
        size_bytes=_size(entry),
        p50_ms=latencies[0].candidate_p50_ms if latencies else None,
        against=", ".join([*([speed(latencies[0])] if latencies else []), *_marks(entry)]),
    )


def _marks(entry: StageEntry) -> list[str]:
    """List what matters about a file beyond its name."""
    marks = []
    for facts in (output.facts for output in entry.outputs):
        if isinstance(facts, CountsWeights):
            share = narrow_share(facts)
            if share is not None and share < LEAST_SHARE:
                marks.append(f"{share:.0%} of weights in {NARROW[facts.scheme][0]}")
        if isinstance(facts, KeepsState) and facts.keeps_state:
            marks.append("keeps a state: reset it before each sample")
    return marks


def _latencies(manifest: RunManifest, prefix: str) -> list[LatencyFacts]:
    """Return latencies by target in the recipe's order; a measurement extended for a gate replaces the first."""
    measured = [e for e in manifest.stages if measures(e) and str(e.axis).startswith(prefix)]
    last = {entry.axis: entry for entry in measured}
    return [o.facts for entry in last.values() for o in entry.outputs if isinstance(o.facts, LatencyFacts)]


def _size(entry: StageEntry) -> int | None:
    return sum(file.size for output in entry.outputs for file in output.files) or None


def speed(latency: LatencyFacts) -> str:
    """Format `×2.10 faster [2.05, 2.16]`: how the candidate's latency compares, with the interval inverted likewise."""
    if latency.ratio <= 1:
        return f"×{1 / latency.ratio:.2f} faster [{1 / latency.ratio_high:.2f}, {1 / latency.ratio_low:.2f}]"
    return f"×{latency.ratio:.2f} slower [{latency.ratio_low:.2f}, {latency.ratio_high:.2f}]"


def table(manifest: RunManifest, store: Path | None = None) -> str:
    """Return the rows as aligned text of at most 100 columns, and notes about them; `store` is where commands look."""
    models = rows(manifest)
    columns = list(COLUMNS)
    if models and models[0].quality:
        columns[QUALITY] = _joined([metric for metric, _ in models[0].quality])
    cells = [columns, *map(_cells, models)]
    head, *lines = aligned(cells, words={0, len(COLUMNS) - 1}).split("\n")
    width = max((len(row.name) for row in models), default=0)
    body = (_with_failures(line, row, width) for line, row in zip(lines, models, strict=True))
    notes = (*_notes_on_baselines(manifest), *_notes_on_macs(manifest), *_notes_of_results(manifest))
    # First of all: a scheme that is chosen for speed, and is slower, is what the reader must not miss.
    return "\n".join([*slower_than_float(manifest, store), head, *body, *notes])


def _with_failures(line: str, row: Row, width: int) -> str:
    """Return the row's line, or `NAME  failed  REASON` if there is nothing else; more reasons below it."""
    reasons = list(row.failures)
    if reasons and not any(_cells(replace(row, failures=(), against=""))[1:]):
        line = shortened(f"{row.name.ljust(width)}  {FAILED}  {reasons.pop(0)}")
    return "\n".join([line, *(shortened(f"{' ' * width}  {reason}") for reason in reasons)])


def _notes_on_macs(manifest: RunManifest) -> list[str]:
    facts = [output.facts for entry in manifest.stages for output in entry.outputs]
    models = [fact for fact in facts if isinstance(fact, KerasFacts)]
    unknown = dict.fromkeys(name for fact in models for name in fact.macs_unknown)
    return macs_notes(tuple(unknown), next((fact.macs_size for fact in models if fact.macs_size), None))


def _notes_of_results(manifest: RunManifest) -> list[str]:
    """Return `prune: …` for each note: unlike warnings, they are there for cached results too."""
    results = [(entry.id, output.facts) for entry in manifest.stages for output in entry.outputs]
    return [f"{name}: {note}" for name, facts in results if isinstance(facts, HasNotes) for note in facts.notes]


def macs_notes(unknown: Sequence[str], size: Mapping[str, Sequence[int]] | None) -> list[str]:
    """Return what a reader of MACs must know: layers whose MACs are unknown, and the shapes assumed for free inputs."""
    notes = []
    if unknown:
        notes.append(f"MACs are at least these: not known of {first_few(unknown)}")
    if size:
        shapes = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in size.items())
        notes.append(f"MACs are counted at {shapes}: the model leaves sizes open")
    return notes


def aligned(lines: Sequence[Sequence[str]], words: Container[int]) -> str:
    """Align lines of cells in columns; those in `words` are left-aligned, numbers right-aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = zip(line, widths, strict=True)
        text.append("  ".join(c.ljust(w) if n in words else c.rjust(w) for n, (c, w) in enumerate(cells)).rstrip())
    return "\n".join(text)


def _cells(row: Row) -> list[str]:
    quality, against = _quality_cell(row), row.against
    if row.failures:
        quality, against = quality or FAILED, f"{against} {FAILED}".strip() if quality else against
    return [
        row.name,
        quality,
        count(row.params),
        f"≥ {count(row.macs)}" if row.macs_at_least else count(row.macs),
        size(row.size_bytes),
        f"{row.p50_ms:.3f} ms" if row.p50_ms is not None else "",
        against,
    ]


def _quality_cell(row: Row) -> str:
    """Format one number with its interval; for those of several outputs there is no room."""
    if all(value is None for _, value in row.quality):
        return ""
    if len(row.quality) == 1:
        ((metric, value),) = row.quality
        if value is not None and metric_and_output(metric)[1] is None:
            return quality_text(metric, value, row.samples)
    return _joined([MISSING if value is None else short_text(metric, value) for metric, value in row.quality])


def _joined(cells: Sequence[str]) -> str:
    """Join the first few of several outputs in one column."""
    return " · ".join(cells[:OUTPUTS_SHOWN]) + (" · …" if len(cells) > OUTPUTS_SHOWN else "")


def shortened(line: str) -> str:
    """Return the line, cut if it would be wider than a terminal."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def counted(actions: Iterable[str]) -> str:
    """Format actions as `load · evaluate ×2 · prune`."""
    kinds = Counter(action.partition(":")[0] for action in actions)
    return " · ".join(name if number == 1 else f"{name} ×{number}" for name, number in kinds.items())


def count(number: float | None) -> str:
    """Format a count as `58.4 k` or `9.1 M`."""
    if number is None:
        return ""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number:.0f}"


def size(size_bytes: float | None) -> str:
    """Format a size as `41.2 kB` (1000 bytes, as for disks)."""
    if size_bytes is None:
        return ""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.1f} kB"


def gate_line(gate: GateResult) -> str:
    """Format `✔ tflite/int8.accuracy_drop 0.004 ≤ 0.02`."""
    mark = {"pass": "✔", "fail": "✘", "inconclusive": "?"}[gate.verdict]
    value = "none" if gate.value is None else f"{gate.value:.4g}"
    interval = f" [{gate.interval[0]:.4g}, {gate.interval[1]:.4g}]" if gate.interval else ""
    line = f"{mark} {gate.metric} {value}{interval} {'≤' if gate.op == 'max' else '≥'} {gate.limit:g}"
    # A gate fails without a value only if nothing else did: then nothing could have measured it.
    return f"{line}: the run has no such metric" if gate.value is None and gate.verdict == "fail" else line


def _what_failed(manifest: RunManifest) -> str:
    """Format `FAILED: 1 of 4 export, 1 of 4 verify`, and what was not started because of it."""
    failed = Counter(entry.stage for entry in manifest.stages if entry.status == "failed")
    every = Counter(entry.stage for entry in manifest.stages)
    lines = ["FAILED: " + ", ".join(f"{number} of {every[stage]} {stage}" for stage, number in failed.items())]
    skipped: dict[str, list[str]] = {}
    for entry in manifest.stages:
        if entry.status == "skipped" and entry.key is None:  # an action that is left out has a key, and its own line
            skipped.setdefault(first_line(entry.reason), []).append(entry.id)
    lines += [f"skipped, since {reason}: {counted(actions)}" for reason, actions in skipped.items()]
    return "\n".join(lines) if failed else "FAILED"


def closing(manifest: RunManifest, store: Path | None = None) -> str:
    """Return the table, the gates, the verdict, and what to do next, with the run's store if it must be named."""
    lines = [
        table(manifest, store),
        *(f"left out: {name}: {first_line(why)}" for name, why in manifest.left_out.items()),
        "",
    ]
    for index, gate in enumerate(manifest.gates):
        lines.append(("gates  " if index == 0 else "       ") + gate_line(gate))
    verdict = {"fail": "FAIL", "failed": _what_failed(manifest)}.get(manifest.verdict, manifest.verdict)
    if manifest.verdict == "pass" and not manifest.gates:
        verdict = "done, no gates"
    lines.append(verdict)
    run = manifest.run_id
    lines.append(f"  {secateur('show', run, store=store)}   tells where everything came from")
    if any(proves(entry) and entry.outputs for entry in manifest.stages):
        lines.append(f"  {secateur('show', run, '--parity', store=store)}   how near each file is to Keras")
    if wanted_files(manifest):
        lines.append(f"  {secateur('export', run, 'out/', store=store)}   copies the files")
    note = note_of(lines[-1])
    return "\n".join([*lines, f"  {note}"] if note else lines)
