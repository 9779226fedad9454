"""Run the recipes of a `sweep:` and put them side by side: a row for each, with its settings and main metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import JsonValue

from pipeline.contracts.events import Event, Finished, Skipped
from pipeline.errors import RecipeError, SecateurError, first_line
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.search_spec import swept
from pipeline.records.declared import every_metric
from pipeline.records.manifest import RunManifest, Verdict
from pipeline.records.metrics import name_and_metric
from pipeline.records.values import Value
from pipeline.reports.quality import quality_of
from pipeline.reports.table import aligned, shortened, size
from stages.search.candidates import Candidate, short, shown
from stages.search.workers import Workers

OF_FILES, OF_TARGETS = ("size_bytes", "macs_ratio"), ("latency_ratio", "instructions_ratio")  # what a row tells
MINUTE_S = 60


class SweepEntry(Value):
    """Tell how one recipe of a sweep ended; `error` says why it has no verdict of its gates, or what failed in it."""

    settings: dict[str, JsonValue]
    run_id: str | None
    verdict: Verdict
    metrics: dict[str, float]
    error: str | None


class SweepReport(Value):
    """Hold what `secateur search` prints of a sweep. `main` are the metrics of the table, from those of all recipes."""

    schema_version: Literal[1] = 1
    name: str
    main: tuple[str, ...]
    recipes: tuple[SweepEntry, ...]

    @property
    def exit_code(self) -> int:
        """Return 4 if a recipe did not reach its end; else 0 if the gates of any pass, 5 if that is open, 1 if none."""
        verdicts = {entry.verdict for entry in self.recipes}
        return next(code for verdict, code in CODES if verdict in verdicts)


CODES: tuple[tuple[Verdict, int], ...] = (("failed", 4), ("pass", 0), ("inconclusive", 5), ("fail", 1))


@dataclass(frozen=True)
class Sweep:
    """Hold the candidates of a sweep with their recipes."""

    base: Recipe
    candidates: tuple[Candidate, ...]
    recipes: tuple[Recipe, ...]

    def run(self, workers: Workers, hear: Callable[[Event], None], say: Callable[[str], None]) -> SweepReport:
        """Run all recipes; `hear` gets what happens in their runs, `say` a line where one ends."""
        ends: dict[int, RunManifest | SecateurError] = {}
        began, count = time.monotonic(), len(self.recipes)

        def listen(index: int, event: Event) -> None:
            # What is summed up in one line keeps its plain name.
            summed = isinstance(event, Skipped) or (isinstance(event, Finished) and event.status == "hit")
            hear(event if summed else replace(event, action=f"{index + 1}: {event.action}"))

        for index, end in workers.run(self.recipes, None, listen):
            ends[index] = end
            left_s = (time.monotonic() - began) / len(ends) * (count - len(ends))
            left = f", about {left_s / MINUTE_S:.0f} min left" if left_s >= MINUTE_S else ""
            verdict = end.verdict if isinstance(end, RunManifest) else f"failed: {first_line(end.what)}"
            say(f"{len(ends)} of {count}{left}   {index + 1}: {self.candidates[index].label()}: {verdict}")
        entries = tuple(_entry(self.candidates[index], ends[index]) for index in range(count))
        return SweepReport(name=self.base.name, main=_main_metrics(self.base, entries), recipes=entries)


def read_sweep(base: Recipe, overrides: tuple[str, ...] = ()) -> Sweep:
    """Return the recipes that a recipe's `sweep` asks for; RecipeError if it has none, or one of them is not valid."""
    if base.sweep is None:
        hint = "add one, such as `sweep: {stages.prune.ratio: [0.3, 0.5], seed: [1, 2]}`"
        raise RecipeError("the recipe has no sweep", where=str(base.source.file), hint=hint)
    candidates = tuple(Candidate(base.source.file, settings, overrides) for settings in swept(base.sweep))
    recipes = []
    for candidate in candidates:
        try:
            recipes.append(candidate.recipe())
        except RecipeError as error:
            where = f"{base.source.where(('sweep',))}: {candidate.label()}"
            raise RecipeError(error.what, where=where, hint=error.hint) from error
    return Sweep(base, candidates, tuple(recipes))


def _entry(candidate: Candidate, end: RunManifest | SecateurError) -> SweepEntry:
    manifest = end if isinstance(end, RunManifest) else end.manifest
    return SweepEntry(
        settings=dict(candidate.settings),
        run_id=manifest.run_id if manifest else None,
        verdict="failed" if isinstance(end, SecateurError) else end.verdict,
        metrics=manifest.metrics if manifest else {},
        error=end.what if isinstance(end, SecateurError) else None,
    )


def _main_metrics(base: Recipe, entries: Sequence[SweepEntry]) -> tuple[str, ...]:
    """Return what the gates look at, then accuracy, size and speed of the last result that the recipes make."""
    there = dict.fromkeys(name for entry in entries for name in entry.metrics)
    gated = [gate.metric for gate in base.gates if gate.metric in there]
    chosen = base.data.metrics if base.data is not None else None
    measured = [full for full in there if quality_of([name_and_metric(full)[1]], chosen)]
    if not measured:
        return tuple(dict.fromkeys(gated))
    last = name_and_metric(measured[-1])[0]
    of_last = [full for full in measured if name_and_metric(full)[0] == last]
    of_file = [full for metric in OF_FILES if (full := f"{last}.{metric}") in there]
    on_targets = [full for full in there if full.startswith(f"{last}@") and name_and_metric(full)[1] in OF_TARGETS]
    return tuple(dict.fromkeys([*gated, *of_last, *of_file, *on_targets]))


def sweep_table(report: SweepReport) -> str:
    """Return a row for each recipe: its settings, its main metrics, the verdict, its run."""
    keys = list(dict.fromkeys(key for entry in report.recipes for key in entry.settings))
    head = ["", *map(short, keys), *report.main, "verdict", "run"]
    lines = [
        [
            str(number),
            *(shown(entry.settings[key]) if key in entry.settings else "" for key in keys),
            *(_cell(metric, entry.metrics.get(metric)) for metric in report.main),
            entry.verdict,
            entry.run_id or "",
        ]
        for number, entry in enumerate(report.recipes, start=1)
    ]
    words = {len(head) - 2, len(head) - 1}
    failures = [
        shortened(f"{number}: {first_line(entry.error)}")
        for number, entry in enumerate(report.recipes, start=1)
        if entry.error
    ]
    return "\n".join([aligned([head, *lines], words), *failures])


def _cell(full: str, value: float | None) -> str:
    if value is None:
        return ""
    metric = every_metric().get(name_and_metric(full)[1])
    return size(value) if metric is not None and metric.unit == "bytes" else f"{value:.4g}"
