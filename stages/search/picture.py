"""Draw the candidates of a study and its front: cost to the right, what is lost upwards. SVG, without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, inf, log10

from pipeline.errors import numbered
from pipeline.records.declared import every_metric
from stages.search.answer import Answer
from stages.search.table import said
from stages.search.trial import FileFigures

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 70, 30, 40, 56
TICKS = 5
GOALS_SHOWN = 4  # what loses more goals than these is left out
STYLE = (
    "text{font:13px sans-serif;fill:#222}.axis{stroke:#888;stroke-width:1}.grid{stroke:#ddd;stroke-width:1}"
    ".front{fill:none;stroke:#1a6b3c;stroke-width:2}.point{fill:#1a6b3c}.other{fill:none;stroke:#999}"
    ".goal{stroke:#b3402a;stroke-dasharray:5 4}"
    "@media(prefers-color-scheme:dark){svg{background:#181818}text{fill:#ddd}.grid{stroke:#333}.axis{stroke:#777}"
    ".front{stroke:#5cc48a}.point{fill:#5cc48a}.goal{stroke:#f08a6e}}"
)


def svg_of(answer: Answer) -> str:
    """Return the picture: points of the front with their letters, other measured files hollow, the goal dashed.

    Losses are of validation data, on which everything was chosen. What loses many times the goal is left out and
    counted: beside it the files about the goal would lie on each other.
    """
    trials = (*answer.finalists, *((answer.unpruned,) if answer.unpruned is not None else ()))
    measured = [file for trial in trials for file in trial.files if file.drop is not None]
    shown = [(point, point.validation) for point in answer.points if point.validation.drop is not None]
    goal = [] if answer.max_drop is None else [100 * answer.max_drop]
    if not shown:
        return _page(answer, [_text(WIDTH / 2, HEIGHT / 2, "no file was measured", "middle")])
    most = max((GOALS_SHOWN * limit for limit in goal), default=inf)
    if all(_points_lost(file) > most for _, file in shown):
        most = inf
    near = [file for file in measured if _points_lost(file) <= most]
    far, losses = len(measured) - len(near), [_points_lost(file) for file in near]
    shown = [(point, file) for point, file in shown if _points_lost(file) <= most]
    x = Axis.of([file.cost for file in near], LEFT, WIDTH - RIGHT)
    y = Axis.of([*losses, *goal], HEIGHT - BOTTOM, TOP)
    parts = [*_axes(answer, x, y)]
    parts += [_line("goal", x.start, y.at(limit), x.end, y.at(limit)) for limit in goal]
    parts += [_dot("other", x.at(file.cost), y.at(loss)) for file, loss in zip(near, losses, strict=True)]
    places = [(x.at(file.cost), y.at(_points_lost(file))) for _, file in shown]
    parts.append(f'<polyline class="front" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in places)}"/>')
    for (point, file), (across, down) in zip(shown, places, strict=True):
        parts.append(_dot("point", across, down))
        name = f"{point.letter} {file.axis} ←" if point.letter == answer.chosen else point.letter
        parts.append(_text(across + 8, down - 8, name, "start"))
    if far:
        parts.append(_text(WIDTH - RIGHT, TOP - 16, f"{numbered(far, 'file')} beyond {most:g} points left out", "end"))
    return _page(answer, parts)


def _points_lost(file: FileFigures) -> float:
    return 100 * (file.drop or 0.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """Map numbers from `low` to `high` to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    step: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> Axis:
        """Return an axis that holds the values and zero, with round ticks."""
        low, high = min(0.0, *values), max(0.0, *values)
        step = _round_step((high - low) / TICKS or 1.0)
        return cls(floor(low / step) * step, ceil(high / step) * step or step, start, end, step)

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        count = round((self.high - self.low) / self.step)
        return [self.low + place * self.step for place in range(count + 1)]


def _round_step(step: float) -> float:
    """Return the next step that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _axes(answer: Answer, x: Axis, y: Axis) -> Iterator[str]:
    metric = every_metric()[answer.cost]
    for value in x.ticks:
        yield _line("grid", x.at(value), y.start, x.at(value), y.end)
        yield _text(x.at(value), y.start + 18, said(metric, value) if value else "0", "middle")
    for value in y.ticks:
        yield _line("grid", x.start, y.at(value), x.end, y.at(value))
        yield _text(x.start - 8, y.at(value) + 4, f"{value:g}", "end")
    yield _line("axis", x.start, y.start, x.end, y.start)
    yield _line("axis", x.start, y.start, x.start, y.end)
    where = f" on {answer.target}" if answer.target else ""
    yield _text((x.start + x.end) / 2, HEIGHT - 12, f"{metric.name}{where}", "middle")
    yield _text(12, TOP - 16, "points lost, validation data", "start")


def _page(answer: Answer, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    title = f"<title>{escape(f'{answer.name}: {answer.goal}')}</title><desc>{escape(answer.verdict)}</desc>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(kind: str, x: float, y: float) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
