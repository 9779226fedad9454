"""Render a sensitivity scan as one HTML page without scripts: a chart of all groups, and a table with every number."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor

from stages.prune.sensitivity.scan import GroupScan, SensitivityReport

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 420, 56, 190, 16, 44  # pixels of the chart and its margins
LABELLED = 8  # lines with their name next to them
LABEL_HEIGHT = 15
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.3rem } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: 2px 10px; text-align: right; border-bottom: 1px solid #e3e6ea } th { font-weight: 600 }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left } td:last-child { color: #59636e }
svg text { font: 12px system-ui, sans-serif; fill: #59636e } svg path:hover { stroke-width: 4 }
"""


def page_of(report: SensitivityReport, name: str) -> str:
    """Return the page: most sensitive groups first."""
    groups = sorted(report.groups, key=lambda group: sum(point.accuracy for point in group.points))
    summary = (
        f"Accuracy on {report.samples} samples of {report.split} with the least important channels (by "
        f"{report.criterion}) of one group at a time masked; {report.baseline_accuracy:.2%} with all channels."
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}: sensitivity</title><style>{STYLE}</style></head>
<body><h1>{escape(name)}: what each channel group costs</h1><p>{escape(summary)}</p>
{_chart(report, groups)}
{_table(groups)}
</body></html>
"""


def _chart(report: SensitivityReport, groups: Sequence[GroupScan]) -> str:
    every = [report.baseline_accuracy, *(point.accuracy for group in groups for point in group.points)]
    bottom, top = _tenth(min(every)), -_tenth(-max(every))  # whole tenths around them
    tenths = round((top - bottom) * 10)

    def x(ratio: float) -> float:
        return LEFT + ratio * (WIDTH - LEFT - RIGHT)

    def y(accuracy: float) -> float:
        return TOP + (top - accuracy) / max(top - bottom, 1e-9) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" aria-label="accuracy against ratio">']
    for tick in range(0, tenths + 1, 1 if tenths <= 5 else 2):
        level = bottom + tick / 10
        parts.append(_line(x(0), y(level), x(1), y(level), "#e3e6ea"))
        parts.append(f'<text x="{LEFT - 8}" y="{y(level) + 4:.1f}" text-anchor="end">{level:.0%}</text>')
    parts += [
        f'<text x="{x(tick / 5):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{tick / 5:.0%}</text>' for tick in range(6)
    ]
    parts.append(f'<text x="{x(0.5):.1f}" y="{HEIGHT - 4}" text-anchor="middle">share of the group masked</text>')
    lowest_label = TOP
    ends = sorted(range(min(LABELLED, len(groups))), key=lambda index: -groups[index].points[-1].accuracy)
    for index, group in enumerate(groups):
        points = [(0.0, report.baseline_accuracy), *((point.ratio, point.accuracy) for point in group.points)]
        path = "M" + "L".join(f"{x(ratio):.1f} {y(accuracy):.1f}" for ratio, accuracy in points)
        parts.append(
            f'<path d="{path}" fill="none" stroke="{_color(index, len(groups))}" stroke-width="1.8">'
            f"<title>{escape(group.name)}</title></path>"
        )
    for index in ends:
        group = groups[index]
        lowest_label = max(lowest_label + LABEL_HEIGHT, int(y(group.points[-1].accuracy)) + 4)
        last = group.points[-1]
        parts.append(_line(x(last.ratio), y(last.accuracy), x(1) + 6, lowest_label - 4, "#c5cbd3"))
        parts.append(
            f'<text x="{x(1) + 10:.1f}" y="{lowest_label}" style="fill:{_color(index, len(groups))}">'
            f"{escape(group.name)}</text>"
        )
    return "\n".join([*parts, "</svg>"])


def _tenth(share: float) -> float:
    """Round down to a whole tenth."""
    # A share that is meant to be a whole tenth can be the float below it.
    return floor(share * 10 + 1e-9) / 10


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def _color(rank: int, count: int) -> str:
    """Return a color from red for the most sensitive to blue, at equal lightness."""
    return f"hsl({int(10 + 210 * rank / max(1, count - 1))}, 65%, 42%)"


def _table(groups: Sequence[GroupScan]) -> str:
    ratios = sorted({point.ratio for group in groups for point in group.points})
    head = "".join(f"<th>-{ratio:.0%}</th>" for ratio in ratios)
    rows = []
    for group in groups:
        cells = "".join(f"<td>{point.accuracy:.2%}</td>" for point in group.points)
        makers = escape(", ".join(group.producers))
        rows.append(f"<tr><td>{escape(group.name)}</td><td>{group.channels}</td>{cells}<td>{makers}</td></tr>")
    title = f"<tr><th>group</th><th>channels</th>{head}<th>made by</th></tr>"
    return f"<table>{title}{''.join(rows)}</table>"
