"""Draw a history as a table with a sparkline of each series in the terminal, and as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipeline.reports.table import aligned
from stages.commands.histories.figures import INTERVAL, main_metric, said
from stages.commands.histories.record import Entry

BLOCKS = "▁▂▃▄▅▆▇█"
DRAWN = 60  # the newest entries drawn in a line
SHORT_COMMIT = 9
WIDTH, HEIGHT, MARGIN, LEFT = 640, 180, 24, 90


def series_of(entries: Sequence[Entry], metric: str | None) -> dict[tuple[str, str, str], list[Entry]]:
    """Group comparable entries, oldest first; those without the metric are left out."""
    grouped: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        if (metric or main_metric(entry.metrics)) in entry.metrics:
            grouped.setdefault(entry.series, []).append(entry)
    return {name: sorted(row, key=lambda entry: entry.time) for name, row in grouped.items()}


def text_of(entries: Sequence[Entry], metric: str | None = None) -> str:
    """Format a block per series: its title, its sparkline, then a line per entry with its change."""
    blocks = []
    for row in series_of(entries, metric).values():
        name = metric or main_metric(row[0].metrics)
        values = [entry.metrics[name] for entry in row]
        head = f"{row[0].name} on {row[0].target}: {name}, {_device(row[0])}"
        drawn = f"{spark(values[-DRAWN:])}  {said(name, min(values))} … {said(name, max(values))}"
        lines = [_line(entry, name, before) for entry, before in zip(row, [None, *values], strict=False)]
        blocks.append("\n".join([head, drawn, aligned(lines, words={0, 1, 5})]))
    return "\n\n".join(blocks)


def _device(entry: Entry) -> str:
    return next((v for k, v in entry.device.items() if k.endswith("cpu_model")), entry.runtime)


def _line(entry: Entry, metric: str, before: float | None) -> list[str]:
    value = entry.metrics[metric]
    ends = [entry.metrics[end] for end in INTERVAL.get(metric, ()) if end in entry.metrics]
    interval = f"[{ends[0]:.4g}, {ends[1]:.4g}]" if len(ends) == len(INTERVAL.get(metric, ())) > 0 else ""
    change = f"{value / before - 1:+.1%}".replace("%", " %") if before else ""
    return [entry.time, (entry.commit or "")[:SHORT_COMMIT], said(metric, value), interval, change, entry.runtime]


def spark(values: Sequence[float]) -> str:
    """Draw a row of blocks, the largest value the highest; all are lowest if they are equal."""
    low, high = min(values), max(values)
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[round(steps * (value - low) / (high - low)) if high > low else 0] for value in values)


def svg_of(entries: Sequence[Entry], metric: str | None = None) -> str:
    """Draw a plot per series, one below the other: a line through the values, a bar per interval. Well-formed XML."""
    rows = list(series_of(entries, metric).values())
    parts = [_plot(row, metric or main_metric(row[0].metrics), index * HEIGHT) for index, row in enumerate(rows)]
    size = f'width="{WIDTH}" height="{HEIGHT * max(1, len(rows))}"'
    style = 'font-family="sans-serif" font-size="12" fill="currentColor"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(parts) + "\n</svg>\n"


def _plot(row: Sequence[Entry], metric: str, top: float) -> str:
    values = [entry.metrics[metric] for entry in row]
    ends = [tuple(e.metrics.get(end, e.metrics[metric]) for end in INTERVAL.get(metric, (metric, metric))) for e in row]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    reach = (high - low) or abs(high) or 1.0
    across, down = (WIDTH - LEFT - MARGIN) / max(1, len(row) - 1), (HEIGHT - 2.5 * MARGIN)

    def y(value: float) -> float:
        return top + 1.5 * MARGIN + down * (1 - (value - low) / reach)

    points = [(LEFT + across * index, y(value)) for index, value in enumerate(values)]
    title = escape(f"{row[0].name} on {row[0].target}: {metric}")
    parts = [f'<text x="{LEFT}" y="{top + MARGIN:.1f}">{title}</text>']
    parts += [_height(LEFT - 8, y(value), said(metric, value)) for value in dict.fromkeys((low, high))]
    for (x, _), (first, last) in zip(points, ends, strict=True):
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(first):.1f}" y2="{y(last):.1f}" stroke="gray"/>')
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline points="{path}" fill="none" stroke="steelblue" stroke-width="1.5"/>')
    for (x, height), entry in zip(points, row, strict=True):
        tooltip = escape(f"{entry.time} {entry.commit or ''} {said(metric, entry.metrics[metric])}")
        parts.append(f'<circle cx="{x:.1f}" cy="{height:.1f}" r="3" fill="steelblue"><title>{tooltip}</title></circle>')
    return "\n".join(parts)


def _height(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
