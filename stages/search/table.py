"""Show an answer as a table to paste anywhere, and how well each level of fidelity ranked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.records.declared import every_metric
from pipeline.records.metrics import Metric
from pipeline.reports.command_lines import note_of, secateur
from pipeline.reports.quality import wilson_half_width
from pipeline.reports.table import WIDTH, aligned, count, size
from stages.search.answer import Answer
from stages.search.verdict import Point

COLUMNS = ("", "file", "accuracy", "lost", "cost", "size", "against the source's")
WORDS = frozenset({0, 1, 6})
FORESEEN = ("budget", "left", "foreseen error", "same class", "accuracy", "", "recipe")
FORESEEN_WORDS = frozenset({0, 5, 6})
FEWEST_RANKED = 5  # candidates of which a rank correlation says something


def text_of(answer: Answer) -> str:
    """Return the table, the verdict, and what to do next; accuracies are of test data, where it was read."""
    metric = every_metric()[answer.cost]
    lines: list[Sequence[str]] = [(*COLUMNS[:4], metric.name, *COLUMNS[5:])]
    judged = {"validation": answer.validation_samples, "test": answer.test_samples}
    yardsticks = (
        ("source", "validation", answer.source),
        ("control", "validation", answer.control),
        ("source", "test", answer.source_on_test),
    )
    lines += [
        (f"{name}, {split}", "", _share(accuracy, judged[split]), *[""] * 4)
        for name, split, accuracy in yardsticks
        if accuracy is not None
    ]
    lines += [_row(answer, point, metric) for point in answer.points]
    tail = [answer.verdict, *_next(answer)]
    return "\n".join([aligned(lines, WORDS), *_budgets(answer), _levels(answer), *_rankings(answer), *tail])


def _budgets(answer: Answer) -> Iterator[str]:
    """Yield the table of what was foreseen, between empty lines, if anything was."""
    if answer.budgets:
        lines: list[Sequence[str]] = [FORESEEN]
        for budget in answer.budgets:
            one, alike = budget.foreseen, budget.foreseen.agreement
            figures = (f"{one.share:.3f}", f"{one.error:.3g}", "" if alike is None else f"{100 * alike:.1f}")
            accuracy = "" if budget.accuracy is None else f"{100 * budget.accuracy:.2f}"
            level = "foreseen only" if budget.level is None else f"{budget.level} {budget.letter or ''}".rstrip()
            lines.append((one.name, *figures, accuracy, level, Path(budget.recipe).name))
        yield from ("", aligned(lines, FORESEEN_WORDS), "")


def _share(accuracy: float | None, samples: int | None) -> str:
    """Format an accuracy in percent, with its 95 % interval if it is known on how many samples it was measured."""
    if accuracy is None:
        return ""
    half = f" ± {100 * wilson_half_width(accuracy, samples):.1f}" if samples else ""
    return f"{100 * accuracy:.2f}{half}"


def _row(answer: Answer, point: Point, metric: Metric) -> tuple[str, ...]:
    mark = f"{point.letter}  ←" if point.letter == answer.chosen else point.letter
    seen = point.test
    accuracy = seen.accuracy if seen is not None else point.validation.accuracy
    samples = answer.test_samples if seen is not None else answer.validation_samples
    drop = seen.drop if seen is not None else point.validation.drop
    return (
        mark,
        point.axis,
        _share(accuracy, samples),
        "" if drop is None else f"{100 * drop:.1f}",
        said(metric, seen.cost if seen is not None and seen.cost is not None else point.validation.cost),
        size(seen.size_bytes) if seen is not None else "",
        _against(point),
    )


def said(metric: Metric, value: float) -> str:
    """Format a cost in its unit."""
    if metric.unit == "bytes":
        return size(value)
    return count(value) if metric.unit == "count" else f"{value:.3f} {metric.unit}"


def _against(point: Point) -> str:
    if not point.pruned:
        return "the source's own"
    against = point.test.against if point.test is not None else None
    if against is None or not against.ratio:
        return ""
    if against.low is None or against.high is None:
        return f"×{1 / against.ratio:.2f} less [exact]"
    if against.ratio >= 1:
        return f"×{against.ratio:.2f} slower [{against.low:.2f}, {against.high:.2f}]"
    return f"×{1 / against.ratio:.2f} faster [{1 / against.high:.2f}, {1 / against.low:.2f}]"


def _levels(answer: Answer) -> str:
    """Return how many candidates got how far, and why others did not."""
    reached = {level: sum(trial.at(level) is not None for trial in answer.trials) for level in ("fitted", "trained")}
    late = sum(trial.ended == "pruned" and bool(trial.reason) for trial in answer.trials)
    ends = {
        "pruned and re-fitted": reached["fitted"],
        "given up then": sum(trial.ended == "pruned" for trial in answer.trials) - late,
        "with no time to train": late,
        "trained": reached["trained"],
        "measured": len(answer.finalists),
        "failed": sum(trial.ended == "failed" for trial in answer.trials),
    }
    return "candidates: " + " · ".join(f"{count} {words}" for words, count in ends.items() if count)


def _rankings(answer: Answer) -> Iterator[str]:
    """Yield one line that says how well what was cheap predicted what was dear."""
    known = [r for r in answer.rankings if r.correlation is not None and r.candidates >= FEWEST_RANKED]
    if known:
        words = (f"{r.lower} → {r.higher} {r.of} {r.correlation:.2f} ({r.candidates})" for r in known)
        line = "rank correlations: "
        for word in words:
            if len(line) + len(word) > WIDTH:
                yield line.rstrip(" ·")
                line = "  "
            line += f"{word} · "
        yield line.rstrip(" ·")


def _next(answer: Answer) -> Iterator[str]:
    chosen = next((point for point in answer.points if point.letter == answer.chosen), None)
    if chosen is None:
        chosen = min(answer.points, key=lambda point: point.validation.cost, default=None)
    if chosen is not None:
        command = secateur("run", Path(chosen.recipe))
        yield f"  {command}   reproduces {chosen.letter} from the cache"
        if note := note_of(command):
            yield f"  {note}"
