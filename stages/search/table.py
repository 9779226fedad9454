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
    lines += [_yardstick("source", answer.source), *([_yardstick("control", answer.control)] if answer.control else [])]
    lines += [_yardstick("source", answer.source_on_test, "test")] if answer.source_on_test is not None else []
    lines += [_row(answer, point, metric) for point in answer.points]
    tail = [*_rankings(answer), answer.verdict, *_next(answer)]
    return "\n".join([aligned(lines, WORDS), *_foreseen(answer), *tail])


def _foreseen(answer: Answer) -> Iterator[str]:
    """Yield the table of what was foreseen, after an empty line, if anything was."""
    if answer.foreseen:
        lines: list[Sequence[str]] = [FORESEEN]
        for one in answer.foreseen:
            alike = "" if one.agreement is None else f"{100 * one.agreement:.1f}"
            fitted = "" if one.fitted is None else f"{100 * one.fitted:.2f}"
            level = "foreseen only" if one.fitted is None else "re-fitted"
            figures = (f"{one.share:.3f}", f"{one.error:.3g}", alike, fitted)
            seen = f"measured: {one.letter}" if one.letter else level
            lines.append((one.budget, *figures, seen, Path(one.recipe).name))
        yield from ("", aligned(lines, FORESEEN_WORDS), "")


def _yardstick(name: str, accuracy: float | None, split: str = "validation") -> tuple[str, ...]:
    shown = "" if accuracy is None else f"{100 * accuracy:.2f}"
    return (f"{name}, {split}", "", shown, "", "", "", "")


def _row(answer: Answer, point: Point, metric: Metric) -> tuple[str, ...]:
    mark = f"{point.letter}  ←" if point.letter == answer.chosen else point.letter
    seen = point.test
    accuracy = seen.accuracy if seen is not None else point.validation.accuracy
    samples = answer.test_samples if seen is not None else None
    half = f" ± {100 * wilson_half_width(accuracy, samples):.1f}" if accuracy is not None and samples else ""
    drop = seen.drop if seen is not None else point.validation.drop
    return (
        mark,
        point.axis,
        "" if accuracy is None else f"{100 * accuracy:.2f}{half}",
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
    against = point.test.against if point.test is not None else None
    if against is None or not against.ratio:
        return ""
    if against.low is None or against.high is None:
        return f"×{1 / against.ratio:.2f} less [exact]"
    if against.ratio >= 1:
        return f"×{against.ratio:.2f} slower [{against.low:.2f}, {against.high:.2f}]"
    return f"×{1 / against.ratio:.2f} faster [{1 / against.high:.2f}, {1 / against.low:.2f}]"


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
