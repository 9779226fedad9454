"""Turn what a study found into an answer: recipes for the front, their figures on test data, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Literal

from pipeline.contracts.events import silent
from pipeline.errors import SecateurError
from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import SOURCE, RunManifest
from pipeline.records.metrics import SIZE
from pipeline.records.values import Json, Value
from pipeline.store import Store
from stages.devices.rounds import Side
from stages.search.budgets import Budget, budgets_of
from stages.search.candidates import Candidate
from stages.search.front import front
from stages.search.goal import Goal
from stages.search.levels import accuracy_of, samples_of, yardstick_of
from stages.search.measuring import against_source
from stages.search.ranking import Ranking, rankings_of
from stages.search.study import Found
from stages.search.trial import FileFigures, Trial, dropped, figures_of
from stages.search.untouched import untouched
from stages.search.verdict import FinalFigures, Point, chosen_of, loss, verdict_of
from stages.search.workers import StudyListener, Workers, unheard


class Answer(Value):
    """Hold the answer of a study, as `--json` prints it. Accuracies are of validation data but for `test`.

    `chance` is the standard error of a drop there; the chosen point has that much to spare, if any has.
    """

    schema_version: Literal[1] = 1
    name: str
    goal: str
    max_drop: float | None
    cost: str
    target: str | None
    source: float | None
    source_on_test: float | None
    control: float | None
    untouched: dict[str, float]
    points: tuple[Point, ...]
    budgets: tuple[Budget, ...]
    chosen: str | None
    verdict: str
    rankings: tuple[Ranking, ...]
    trials: tuple[Trial, ...]
    finalists: tuple[Trial, ...]
    unpruned: Trial | None
    seconds: float
    validation_samples: int | None
    chance: float
    test_samples: int | None


def answered(
    base: Candidate, found: Found, store: Store, workers: Workers, folder: Path, listener: StudyListener = unheard
) -> Answer:
    """Write the recipes of the front into `folder`, run each as it is, and return the answer.

    The test split is read here for the first time, and nothing is chosen by what it says.
    """
    recipe, goal = base.recipe(), found.goal
    measured = (*found.finalists, *((found.unpruned,) if found.unpruned is not None else ()))
    best = best_files(measured, goal)
    # Drops on test data are from the same yardstick, also where the recipe asks for no control.
    control: dict[str, Json] = {"control": True} if found.control is not None else {}
    paths = [folder / _file_name(file, index) for index, (_, file) in enumerate(best)]
    for (trial, _), path in zip(best, paths, strict=True):
        replace(base, settings=trial.settings | (control if _pruned(trial) else {})).write(path)
    plain = folder / "source.yaml"
    replace(base, settings=untouched(recipe)).write(plain)
    *ended, source = _all(workers, [Recipe.load(path) for path in (*paths, plain)], listener)
    known = [yardstick_of(run.metrics) for run in ended if isinstance(run, RunManifest)]
    yardstick = max((accuracy for accuracy in known if accuracy is not None), default=None)
    points = [
        Point(
            letter=ascii_uppercase[index],
            axis=file.axis,
            recipe=str(path),
            settings=trial.settings,
            pruned=_pruned(trial),
            validation=file,
            test=_tested(run, source if _pruned(trial) else None, yardstick, file.axis, goal, store, recipe.folder),
        )
        for index, ((trial, file), path, run) in enumerate(zip(best, paths, ended, strict=True))
    ]
    chosen, plain_drops = chosen_of(points, goal, found.chance), _untouched(source)
    trials = list({trial.number: trial for trial in (*found.trials, *found.finalists)}.values())  # as far as they got
    return Answer(
        name=recipe.name,
        goal=str(goal),
        max_drop=goal.max_drop,
        cost=goal.cost.name,
        target=goal.target,
        source=found.source,
        source_on_test=accuracy_of(source.metrics, SOURCE) if isinstance(source, RunManifest) else None,
        control=found.control,
        untouched=plain_drops,
        points=tuple(points),
        budgets=tuple(budgets_of(base, found.foreseen, trials, points, control, folder)),
        chosen=chosen.letter if chosen else None,
        verdict=verdict_of(found, points, chosen, plain_drops),
        rankings=tuple(rankings_of(trials, found.foreseen)),
        trials=found.trials,
        finalists=found.finalists,
        unpruned=found.unpruned,
        seconds=round(found.seconds, 1),
        validation_samples=found.samples,
        chance=found.chance,
        test_samples=samples_of(source) if isinstance(source, RunManifest) else None,
    )


def _all(workers: Workers, recipes: Sequence[Recipe], listener: StudyListener) -> list[RunManifest | SecateurError]:
    """Run recipes to their ends, and return how each ended, in their order."""
    ended = dict(workers.run(recipes, None, listener))
    return [ended[index] for index in range(len(recipes))]


def best_files(finalists: Sequence[Trial], goal: Goal) -> list[tuple[Trial, FileFigures]]:
    """Return the front of all files within the goal's limits by cost and loss, the most accurate first.

    Where none is within the limits, it is that of the others. One candidate can be there with several files.
    """
    files = [(trial, file) for trial in finalists for file in trial.files]
    within = [(trial, file) for trial, file in files if file.within(goal.limits)]
    return front(within or files, lambda pick: (pick[1].cost, loss(pick[1])))[::-1]


def _file_name(file: FileFigures, index: int) -> str:
    drop = "" if file.drop is None else f"-{100 * max(0.0, file.drop):.1f}"
    return f"{ascii_uppercase[index]}{drop}.yaml"


def _pruned(trial: Trial) -> bool:
    return trial.why != "unpruned"


def _tested(
    run: RunManifest | SecateurError,
    source: RunManifest | SecateurError | None,
    yardstick: float | None,
    axis: str,
    goal: Goal,
    store: Store,
    folder: Path,
) -> FinalFigures | None:
    if not isinstance(run, RunManifest):
        return None
    file = next((file for file in figures_of(run, goal, yardstick) if file.axis == axis), None)
    if file is None:
        return None
    against = None
    if isinstance(source, RunManifest):
        sides: dict[Side, RunManifest] = {"baseline": source, "candidate": run}
        against = against_source(goal, axis, sides, store, folder, silent)
    return FinalFigures(
        accuracy=file.accuracy,
        drop=file.drop,
        cost=file.cost,
        size_bytes=run.metrics.get(f"{axis}.{SIZE.name}"),
        against=against,
    )


def _untouched(run: RunManifest | SecateurError) -> dict[str, float]:
    """Return what the source as it is loses in each file, on test data."""
    if not isinstance(run, RunManifest):
        return {}
    yardstick = accuracy_of(run.metrics, SOURCE)
    axes = {name.partition(".")[0] for name in run.metrics if "/" in name and "@" not in name}
    drops = {axis: dropped(accuracy_of(run.metrics, axis), yardstick) for axis in sorted(axes)}
    return {axis: drop for axis, drop in drops.items() if drop is not None}
