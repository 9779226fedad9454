"""Turn what a study found into an answer: recipes for the front, their figures on test data, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from stages.search.candidates import Base, written, written_data
from stages.search.front import front, rank_correlation
from stages.search.goal import Goal
from stages.search.levels import accuracy_of, yardstick_of
from stages.search.measuring import Against, against_source
from stages.search.study import Found
from stages.search.trial import FileFigures, Trial, dropped, figures_of, pairs_of
from stages.search.untouched import untouched
from stages.search.workers import StudyListener, Workers, unheard


class Tested(Value):
    """Hold a file's figures on test data: what it lost against the better of source and control, and its cost."""

    accuracy: float | None
    drop: float | None
    cost: float | None
    size_bytes: float | None
    against: Against | None


class Point(Value):
    """Hold one candidate of the answer and the file of it that serves the goal best."""

    letter: str
    axis: str
    recipe: str
    settings: dict[str, Json]
    validation: FileFigures
    test: Tested | None
    keeps: bool


class Ranking(Value):
    """Hold how well a level of fidelity ranked candidates: Spearman's correlation with the next level."""

    lower: str
    higher: str
    of: Literal["accuracy", "cost"]
    candidates: int
    correlation: float | None


class Answer(Value):
    """Hold the answer of a study, as `--json` prints it. Accuracies are of validation data but for `test`."""

    schema_version: Literal[1] = 1
    name: str
    goal: str
    max_drop: float | None
    cost: str
    target: str | None
    source: float | None
    control: float | None
    untouched: dict[str, float]
    points: tuple[Point, ...]
    chosen: str | None
    verdict: str
    rankings: tuple[Ranking, ...]
    trials: tuple[Trial, ...]
    finalists: tuple[Trial, ...]
    seconds: float
    test_samples: int | None


def answered(
    base: Base, found: Found, store: Store, workers: Workers, folder: Path, listener: StudyListener = unheard
) -> Answer:
    """Write the recipes of the front into `folder`, run each as it is, and return the answer.

    The test split is read here for the first time, and nothing is chosen by what it says.
    """
    picked = [(trial, file) for trial in found.finalists if (file := best_file(trial, found.goal)) is not None]
    best = front(picked, lambda pick: (pick[1].cost, _loss(pick[1])))[::-1]
    keeping = [index for index, (_, file) in enumerate(best) if file.keeps(found.goal)]
    files = [
        written(base, trial.settings, folder / _file_name(file, index)) for index, (trial, file) in enumerate(best)
    ]
    plain = written_data(untouched(base.recipe), base, folder / "source.yaml")
    ended = dict(workers.run([Recipe.load(path) for path in (*files, plain)], None, listener))
    source_run = ended[len(files)]
    points = [
        Point(
            letter=ascii_uppercase[index],
            axis=file.axis,
            recipe=str(path),
            settings=trial.settings,
            validation=file,
            test=_tested(ended[index], source_run, file.axis, found.goal, store, base.recipe.folder),
            keeps=index in keeping,
        )
        for index, ((trial, file), path) in enumerate(zip(best, files, strict=True))
    ]
    chosen = points[keeping[-1]] if keeping else None
    return Answer(
        name=base.recipe.name,
        goal=str(found.goal),
        max_drop=found.goal.max_drop,
        cost=found.goal.cost.name,
        target=found.goal.target,
        source=found.source,
        control=found.control,
        untouched=_untouched(source_run),
        points=tuple(points),
        chosen=chosen.letter if chosen else None,
        verdict=verdict_of(found, points, chosen, _untouched(source_run)),
        rankings=tuple(rankings_of([*found.trials, *found.finalists])),
        trials=found.trials,
        finalists=found.finalists,
        seconds=round(found.seconds, 1),
        test_samples=_samples(source_run),
    )


def best_file(trial: Trial, goal: Goal) -> FileFigures | None:
    """Return the file of a candidate that serves the goal best: the cheapest that keeps it, else the most accurate."""
    keeping = [file for file in trial.files if file.keeps(goal)]
    if keeping:
        return min(keeping, key=lambda file: file.cost)
    return min(trial.files, key=lambda file: (_loss(file), file.cost), default=None)


def _loss(file: FileFigures) -> float:
    return float("inf") if file.drop is None else file.drop


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
) -> Tested | None:
    if not isinstance(run, RunManifest):
        return None
    file = next((file for file in figures_of(run, goal, yardstick_of(run.metrics)) if file.axis == axis), None)
    if file is None:
        return None
    against = None
    if isinstance(source, RunManifest):
        sides: dict[Side, RunManifest] = {"baseline": source, "candidate": run}
        against = against_source(goal, axis, sides, store, folder, silent)
    return Tested(
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


def rankings_of(trials: Sequence[Trial]) -> list[Ranking]:
    """Return how well each level ranked accuracy against the next one, and predicted cost against the measured one."""
    found = []
    for lower, higher in (("fitted", "trained"), ("trained", "measured")):
        pairs = [
            (low.accuracy, high.accuracy)
            for low, high in pairs_of(trials, lower, higher)  # type: ignore[arg-type]  # the levels' own names
            if low.accuracy is not None and high.accuracy is not None
        ]
        found.append(_ranking(lower, higher, "accuracy", pairs))
    for axis in dict.fromkeys(file.axis for trial in trials for file in trial.files):
        files = ((trial, file) for trial in trials for file in trial.files if file.axis == axis)
        costs = [
            (seen.share, file.cost) for trial, file in files if (seen := trial.best_known) and seen.share is not None
        ]
        found.append(_ranking("predicted", axis, "cost", costs))
    return [ranking for ranking in found if ranking.candidates]


def _ranking(lower: str, higher: str, of: Literal["accuracy", "cost"], pairs: Sequence[tuple[float, float]]) -> Ranking:
    return Ranking(lower=lower, higher=higher, of=of, candidates=len(pairs), correlation=rank_correlation(pairs))


def verdict_of(found: Found, points: Sequence[Point], chosen: Point | None, untouched: Mapping[str, float]) -> str:
    """Say which point is the answer, or why there is none and what would help."""
    if found.goal.max_drop is None:
        return f"{len(points)} points of the front" if points else _failed(found)
    most = 100 * found.goal.max_drop
    if chosen is not None:
        text = f"{chosen.letter} is the best within {most:g} points"
        if chosen.test is None or chosen.test.drop is None:
            return text
        text += f" (test data, read once: {_points(chosen.test.drop)})"
        if chosen.test.drop > found.goal.max_drop:
            text += f"; that is more than the goal: {_points(chosen.validation.drop)} on validation data was luck"
        return text
    nearest = min(points, key=lambda point: _loss(point.validation), default=None)
    near = f"; nearest: {nearest.letter} at {_points(nearest.validation.drop)}" if nearest else ""
    lost = dropped(found.control, found.source)
    if lost is not None and lost > found.goal.max_drop:
        plain = min(untouched.values(), default=None)
        intact = "" if plain is None else f"; the source untouched loses {100 * plain:.1f} in its best file"
        help_ = "more training images or epochs, or a lower learning rate, would help"
        return (
            f"not reachable: the control itself loses {100 * lost:.1f} points with this training{intact}{near}; {help_}"
        )
    if not points:
        return _failed(found)
    cause = "the time ran out" if found.ran_out else f"{len(found.trials)} candidates were tried"
    return f"not reached: {cause}{near}; more trials, more epochs or a larger drop would help"


def _failed(found: Found) -> str:
    reason = next((trial.reason for trial in (*found.finalists, *found.trials) if trial.reason), "no file was measured")
    return f"not reached: {reason}"


def _points(drop: float | None) -> str:
    return "unknown" if drop is None else f"{-100 * drop:+.1f} points"
