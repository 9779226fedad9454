"""Write a recipe for each budget that was foreseen, and tell how far candidates got with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.records.values import Json, Value
from stages.search.candidates import Candidate
from stages.search.foreseen import Foreseen
from stages.search.levels import LevelName
from stages.search.trial import Trial
from stages.search.verdict import Point


class Budget(Value):
    """Hold a foreseen candidate and its recipe; and the highest level that it was brought to, with its accuracy there.

    `letter` is its point on the front, None if it is none.
    """

    recipe: str
    foreseen: Foreseen
    level: LevelName | None
    accuracy: float | None
    letter: str | None


def budgets_of(
    base: Candidate,
    foreseen: Sequence[Foreseen],
    trials: Sequence[Trial],
    points: Sequence[Point],
    own: Mapping[str, Json],
    folder: Path,
) -> Iterator[Budget]:
    """Yield the foreseen budgets, most left first; a recipe is written for those that are no point of the front.

    `own` are settings of all recipes of the answer.
    """
    for one in sorted(foreseen, key=lambda one: -one.budget):
        point = next((point for point in points if point.settings == one.settings), None)
        recipe = folder / f"{one.name.replace(' ', '-')}.yaml"
        if point is None:
            replace(base, settings={**one.settings, **own}).write(recipe)
        trial = next((trial for trial in trials if trial.settings == one.settings), None)
        reached = trial.best_known if trial is not None else None
        yield Budget(
            recipe=str(recipe) if point is None else point.recipe,
            foreseen=one,
            level=reached.level if reached is not None else None,
            accuracy=reached.accuracy if reached is not None else None,
            letter=point.letter if point is not None else None,
        )
