"""Turn what a study found into an answer: recipes for the front, their figures on test data, and a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Literal

from pipeline.contracts.events import silent
from pipeline.errors import SecateurError
from pipeline.recipe.recipe import Recipe
from pipeline.records.facts import EvaluationFacts
from pipeline.records.manifest import SOURCE, RunManifest
from pipeline.records.metrics import SIZE
from pipeline.records.values import Json, Value
from pipeline.store import Store
from stages.devices.rounds import Side
from stages.search.candidates import Candidate, shown
from stages.search.front import front
from stages.search.goal import Goal
from stages.search.levels import accuracy_of, yardstick_of
from stages.search.measuring import against_source
from stages.search.ranking import Ranking, rankings_of
from stages.search.study import Found
from stages.search.trial import FileFigures, Trial, dropped, figures_of
from stages.search.untouched import untouched
from stages.search.verdict import FinalFigures, Foreseen, Point, chosen_of, loss, verdict_of
from stages.search.workers import StudyListener, Workers, unheard


class Answer(Value):
    """Hold the answer of a study, as `--json` prints it. Accuracies are of validation data but for `test`."""

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
    foreseen: tuple[Foreseen, ...] = ()
    chosen: str | None
    verdict: str
    rankings: tuple[Ranking, ...]
    trials: tuple[Trial, ...]
    finalists: tuple[Trial, ...]
    seconds: float
    test_samples: int | None


def answered(
    base: Candidate, found: Found, store: Store, workers: Workers, folder: Path, listener: StudyListener = unheard
) -> Answer:
    """Write the recipes of the front into `folder`, run each as it is, and return the answer.

    The test split is read here for the first time, and nothing is chosen by what it says.
    """
    recipe, goal = base.recipe(), found.goal
    picked = [(trial, file) for trial in found.finalists if (file := best_file(trial, goal)) is not None]
    best = front(picked, lambda pick: (pick[1].cost, loss(pick[1])))[::-1]
    # Drops on test data are from the same yardstick, also where the recipe asks for no control.
    control: dict[str, Json] = {"control": True} if found.control is not None else {}
    paths = [folder / _file_name(file, index) for index, (_, file) in enumerate(best)]
    letters = {trial.number: ascii_uppercase[index] for index, (trial, _) in enumerate(best)}
    recipes = {trial.number: path for (trial, _), path in zip(best, paths, strict=True)}
    foreseen = [trial for trial in found.trials if trial.at("allocated") is not None]
    for trial in foreseen:
        recipes.setdefault(trial.number, folder / f"{_budget(found, trial).replace(' ', '-')}.yaml")
    for trial in {trial.number: trial for trial in (*foreseen, *(trial for trial, _ in best))}.values():
        replace(base, settings=trial.settings | control).write(recipes[trial.number])
    plain = folder / "source.yaml"
    replace(base, settings=untouched(recipe)).write(plain)
    *ended, source = _all(workers, [Recipe.load(path) for path in (*paths, plain)], listener)
    points = [
        Point(
            letter=ascii_uppercase[index],
            axis=file.axis,
            recipe=str(path),
            settings=trial.settings,
            validation=file,
            test=_tested(run, source, file.axis, goal, store, recipe.folder),
        )
        for index, ((trial, file), path, run) in enumerate(zip(best, paths, ended, strict=True))
    ]
    chosen, plain_drops = chosen_of(points, goal), _untouched(source)
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
        foreseen=tuple(_foreseen(found, recipes, letters)),
        chosen=chosen.letter if chosen else None,
        verdict=verdict_of(found, points, chosen, plain_drops),
        rankings=tuple(rankings_of([*found.trials, *found.finalists])),
        trials=found.trials,
        finalists=found.finalists,
        seconds=round(found.seconds, 1),
        test_samples=_samples(source),
    )


def _budget(found: Found, trial: Trial) -> str:
    """Return what a candidate leaves: `macs 0.45`."""
    return f"{found.budget.rpartition('.')[2]} {shown(trial.settings[found.budget])}"


def _foreseen(found: Found, recipes: Mapping[int, Path], letters: Mapping[int, str]) -> Iterator[Foreseen]:
    """Yield what was foreseen of candidates, most left first; `recipes` and `letters` are by their numbers."""
    known = [(trial, reached) for trial in found.trials if (reached := trial.at("allocated")) is not None]
    for trial, reached in sorted(known, key=lambda entry: -(entry[1].share or 0.0)):
        assert reached.share is not None
        assert reached.error is not None
        fitted = trial.at("fitted")
        yield Foreseen(
            recipe=str(recipes[trial.number]),
            budget=_budget(found, trial),
            share=reached.share,
            error=reached.error,
            agreement=reached.accuracy,
            fitted=fitted.accuracy if fitted is not None else None,
            letter=letters.get(trial.number),
        )


def _all(workers: Workers, recipes: Sequence[Recipe], listener: StudyListener) -> list[RunManifest | SecateurError]:
    """Run recipes to their ends, and return how each ended, in their order."""
    ended = dict(workers.run(recipes, None, listener))
    return [ended[index] for index in range(len(recipes))]


def best_file(trial: Trial, goal: Goal) -> FileFigures | None:
    """Return the file of a candidate that serves the goal best: the cheapest that keeps it, else the most accurate."""
    keeping = [file for file in trial.files if file.keeps(goal)]
    if keeping:
        return min(keeping, key=lambda file: file.cost)
    return min(trial.files, key=lambda file: (loss(file), file.cost), default=None)


def _file_name(file: FileFigures, index: int) -> str:
    drop = "" if file.drop is None else f"-{100 * max(0.0, file.drop):.1f}"
    return f"{ascii_uppercase[index]}{drop}.yaml"


def _tested(
    run: RunManifest | SecateurError,
    source: RunManifest | SecateurError,
    axis: str,
    goal: Goal,
    store: Store,
    folder: Path,
) -> FinalFigures | None:
    if not isinstance(run, RunManifest):
        return None
    file = next((file for file in figures_of(run, goal, yardstick_of(run.metrics)) if file.axis == axis), None)
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


def _samples(run: RunManifest | SecateurError) -> int | None:
    """Return on how many test samples accuracies were measured."""
    entries = run.stages if isinstance(run, RunManifest) else ()
    facts = (output.facts for entry in entries for output in entry.outputs)
    return next((seen.samples for seen in facts if isinstance(seen, EvaluationFacts)), None)
