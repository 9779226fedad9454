"""Search: raise candidates through levels of fidelity, bisect for the border of the goal, explore around it.

What is computed is cached as in any run; what was proposed is in Optuna's storage. So a study that was killed goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from pipeline.errors import RecipeError, SecateurError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.search_spec import Interval, SearchSpec
from pipeline.records.keys import digest_of
from pipeline.records.manifest import CONTROL, SOURCE, RunManifest
from pipeline.records.values import Json
from pipeline.store import Store
from stages.search.border import next_budget
from stages.search.candidates import Base, recipe_of
from stages.search.explore import Explorer
from stages.search.front import front
from stages.search.goal import Goal, goal_of
from stages.search.levels import Level, accuracy_of, levels_of, share_left, yardstick_of
from stages.search.space import space_of
from stages.search.trial import Reached, Trial, dropped, figures_of, pairs_of, smoothed_drops
from stages.search.workers import StudyListener, Workers, unheard

JUDGED: dict[str, Json] = {"data.judge_on": "validation"}
SKETCHED = 6  # budgets of the first sketch
BATCH = 4  # candidates that are explored at once
FINALISTS = 5
FOR_FINALISTS = 0.35  # of the minutes, kept for exporting and measuring
AROUND = (0.6, 1.4)  # where candidates are explored, as factors of the border's budget
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Status:
    """Report how far a study is, whenever that changes."""

    trials: int
    most_trials: int
    trained: int
    pruned: int
    failed: int
    running: int
    best: Trial | None
    left_s: float
    phase: str


@dataclass(frozen=True, slots=True)
class Found:
    """Hold what a study found: all candidates, those that were measured, and the accuracies on validation data.

    `yardstick` is the better of the source's and the control's accuracy.
    """

    goal: Goal
    trials: tuple[Trial, ...]
    finalists: tuple[Trial, ...]
    source: float | None
    control: float | None
    yardstick: float | None
    seconds: float
    ran_out: bool


Heard = Callable[[Status], None]


class Study:
    """Run one search to its end; `listener` hears what happens in its runs."""

    def __init__(self, base: Base, store: Store, workers: Workers, listener: StudyListener = unheard) -> None:
        recipe = base.recipe
        self._base, self._workers, self._listener = base, workers, listener
        self._heard: Heard = _unheard
        self._spec: SearchSpec = recipe.search or SearchSpec()
        if recipe.data is None:
            hint = "add `data:`; without labels, agreement with the source stands for the accuracy"
            raise RecipeError("a search needs data", where=recipe.source.where(("stages",)), hint=hint)
        self.levels = levels_of(recipe)
        self.goal: Goal = goal_of(recipe, self._spec)
        self.space = space_of(recipe, self._spec, self.goal, self.levels)
        recipe_of(base, {**self.space.fixed, **self.space.usual, self.space.budget: self.space.bounds.high})
        name = f"{recipe.name}-{digest_of('study', [recipe.digest, self._spec.model_dump(mode='json')])[7:19]}"
        self._explorer = Explorer(base.storage or _in_store(store, name), name, self.space, self.goal, recipe.seed)
        self._started = time.monotonic()
        self._before_s = self._explorer.spent_s
        self._yardstick: tuple[float | None, float | None, float | None] = (None, None, None)
        self._running = 0
        self._phase = ""

    def run(self, heard: Heard) -> Found:
        """Return what was found; SecateurError if not even the recipe itself can be run."""
        self._heard = heard
        self._measure_yardstick()
        self._sketch()
        self._find_border()
        self._explore()
        finalists = self._measure(self._finalists())
        return Found(
            self.goal,
            tuple(self._explorer.trials),
            finalists,
            *self._yardstick,
            seconds=self._spent_s(),
            ran_out=self._out_of_time(),
        )

    # --- levels -----------------------------------------------------------------------------------------------------

    def _measure_yardstick(self) -> None:
        """Train the source as candidates are trained: a candidate's drop is from the better of the two."""
        self._phase = "control"
        settings = {**self.space.fixed, **self.space.usual, self.space.budget: self._start_budget()}
        manifest = self._one(settings, self.levels.levels[-2], control=self.levels.trains)
        source, control = (accuracy_of(manifest.metrics, name) for name in (SOURCE, CONTROL))
        if source is None:
            what = "the accuracy of the source is not measured, so that candidates can't be told apart"
            hint = "a search is for one output of classes with labels, or for `optimize`, which makes up labels"
            raise RecipeError(what, where=self._base.recipe.source.where(("data",)), hint=hint)
        self._yardstick = source, control, yardstick_of(manifest.metrics)

    def _sketch(self) -> None:
        """Bring candidates of the usual settings and some budgets to the first level."""
        self._phase = "fitted"
        low, high = float(self.space.bounds.low), float(self.space.bounds.high)
        budgets = [round(low * (high / low) ** (place / (SKETCHED - 1)), 4) for place in range(SKETCHED)]
        known = [self._budget(trial) for trial in self._explorer.trials]
        missing = [b for b in budgets if not any(abs(b / seen - 1) < 1e-3 for seen in known)]
        asked = [self._explorer.ask("levels", budget, self.space.usual) for budget in missing]
        for trial in self._raised(asked, self.levels.levels[0]):
            self._tell(trial)

    def _find_border(self) -> None:
        """Bisect the budget at which trained candidates of the usual settings just meet the goal."""
        self._phase = "border"
        if self.goal.max_drop is None:
            return
        while not self._out_of_time():
            known = [(self._budget(trial), self._meets(trial)) for trial in self._usual()]
            budget = next_budget(known, self.space.bounds, self._start_budget())
            if budget is None:
                return
            self._raise_fully([self._explorer.ask("border", round(budget, 4), self.space.usual)], prunable=False)

    def _explore(self) -> None:
        """Let the sampler propose candidates around the border until the budget of trials or minutes is used."""
        self._phase = "explored"
        low, high = float(self.space.bounds.low), float(self.space.bounds.high)
        border = min((self._budget(trial) for trial in self._usual() if self._meets(trial)), default=None)
        if border is not None:
            low, high = max(low, AROUND[0] * border), min(high, AROUND[1] * border)
        while not self._out_of_time() and (left := self._spec.budget.trials - len(self._explorer.trials)) > 0:
            bounds = Interval(low=round(low, 4), high=round(high, 4))
            self._raise_fully([self._explorer.ask("explored", bounds) for _ in range(min(BATCH, left))], prunable=True)

    def _raise_fully(self, asked: Sequence[Trial], *, prunable: bool) -> None:
        """Bring candidates to the level before the last; those that are given up stop after the first."""
        going = self._raised(asked, self.levels.levels[0])
        if not self.levels.trains:
            for trial in going:
                self._tell(trial)
            return
        on = []
        for trial in going:
            score = self._score(trial)
            gives_up = trial.ended == "failed" or (score is not None and self._explorer.gives_up(trial, score))
            if gives_up and (prunable or trial.ended == "failed"):
                self._tell(trial if trial.ended == "failed" else trial.model_copy(update={"ended": "pruned"}))
            else:
                on.append(trial)
        for trial in self._raised(on, self.levels.levels[1]):
            self._tell(trial)

    def _raised(self, trials: Sequence[Trial], level: Level, *, control: bool = False) -> list[Trial]:
        """Return candidates with what they reached at a level; those that failed end there."""
        self._running = len(trials)
        self._say()
        recipes = [self._recipe(trial.settings, control=control) for trial in trials]
        raised = list(trials)
        begun = time.monotonic()
        for index, ended in self._workers.run(recipes, level.until, self._listener):
            self._running -= 1
            if isinstance(ended, RunManifest):
                raised[index] = self._with_level(trials[index], level, ended, time.monotonic() - begun)
            elif isinstance(ended, SecateurError):
                raised[index] = trials[index].model_copy(update={"ended": "failed", "reason": ended.what})
            begun = time.monotonic()
            self._say()
        return raised

    def _with_level(self, trial: Trial, level: Level, manifest: RunManifest, wall_s: float) -> Trial:
        yardstick = yardstick_of(manifest.metrics) if _has_control(manifest) else self._yardstick[2]
        files = figures_of(manifest, self.goal, yardstick) if level.named is None else ()
        named = level.named or self.levels.levels[-2].named
        assert named is not None
        accuracy = accuracy_of(manifest.metrics, named)
        reached = Reached(
            level=level.name,
            accuracy=accuracy,
            drop=dropped(accuracy, yardstick),
            share=share_left(manifest.metrics, self.levels),
            wall_s=round(wall_s, 3),
        )
        update = {"reached": (*trial.reached, reached), "files": files, "run_id": manifest.run_id}
        return trial.model_copy(update=update)

    def _one(self, settings: dict[str, Json], level: Level, *, control: bool) -> RunManifest:
        for _, ended in self._workers.run([self._recipe(settings, control=control)], level.until, self._listener):
            if isinstance(ended, SecateurError):
                raise ended
            return ended
        raise AssertionError("workers yield every recipe once")

    # --- judgment ---------------------------------------------------------------------------------------------------

    def _finalists(self) -> list[Trial]:
        """Return the candidates to export: the front of those at the highest level, the border's neighbors first."""
        highest = self.levels.levels[-2].name
        drops = smoothed_drops(self._explorer.trials)
        top = [trial for trial in self._explorer.trials if trial.at(highest) and trial.number in drops]

        def numbers(trial: Trial) -> tuple[float, float]:
            reached = trial.at(highest)
            return (reached.share if reached and reached.share is not None else 1.0), drops[trial.number]

        best = front(top, numbers)
        if self.goal.max_drop is None:
            return best[:: max(1, len(best) // FINALISTS)][:FINALISTS]
        most = self.goal.max_drop
        meets = [trial for trial in best if drops[trial.number] <= most]
        misses = [trial for trial in best if drops[trial.number] > most]
        return [*meets[: FINALISTS - 1], *misses[::-1]][:FINALISTS]

    def _measure(self, finalists: Sequence[Trial]) -> tuple[Trial, ...]:
        """Export, verify and measure the finalists, each beside a control of its own training."""
        self._phase = "measured"
        raised = self._raised(finalists, self.levels.levels[-1], control=self.levels.trains)
        return tuple(trial.model_copy(update={"ended": "done"}) if trial.files else trial for trial in raised)

    def _meets(self, trial: Trial) -> bool:
        reached = trial.at(self.levels.levels[-2].name)
        return (
            reached is not None
            and reached.drop is not None
            and self.goal.max_drop is not None
            and reached.drop <= self.goal.max_drop
        )

    def _usual(self) -> list[Trial]:
        """Return the candidates that differ from the recipe in their budget alone and were trained, or failed."""
        usual, highest = dict(self.space.usual), self.levels.levels[-2].name
        return [
            trial
            for trial in self._explorer.trials
            if all(trial.settings.get(key) == value for key, value in usual.items())
            and (trial.at(highest) is not None or trial.ended == "failed")
        ]

    def _score(self, trial: Trial) -> float | None:
        """Return what a candidate would cost, raised by how much its expected drop misses the goal; low is good."""
        reached = trial.best_known
        if reached is None or reached.share is None or reached.drop is None:
            return None
        most = self.goal.max_drop or 0.0
        excess = max(0.0, self._recovery() * reached.drop - most)
        return reached.share * (1 + excess / max(most, 1e-3))

    def _recovery(self) -> float:
        """Return how much of a fitted candidate's drop is left after training, by those that were trained."""
        pairs = pairs_of(self._explorer.trials, "fitted", "trained")
        shares = [high.drop / low.drop for low, high in pairs if low.drop and high.drop is not None and low.drop > 0]
        return max(0.0, median(shares)) if shares else HALF

    def _tell(self, trial: Trial) -> None:
        reached = trial.best_known
        done = trial if trial.ended in ("failed", "pruned") else trial.model_copy(update={"ended": "done"})
        share, drop = (reached.share, reached.drop) if reached is not None else (None, None)
        if reached is not None and reached.level == "fitted" and drop is not None and self.levels.trains:
            drop = self._recovery() * drop  # what it would be
        self._explorer.tell(done, share, drop)
        self._explorer.spend(self._spent_s())
        self._say()

    # --- bookkeeping ------------------------------------------------------------------------------------------------

    def _recipe(self, settings: dict[str, Json], *, control: bool) -> Recipe:
        return recipe_of(self._base, {**settings, **JUDGED, "control": control})

    def _budget(self, trial: Trial) -> float:
        return float(trial.settings[self.space.budget])

    def _start_budget(self) -> float:
        return min(max(HALF, float(self.space.bounds.low)), float(self.space.bounds.high))

    def _spent_s(self) -> float:
        return self._before_s + time.monotonic() - self._started

    def _out_of_time(self) -> bool:
        return self._spent_s() > (1 - FOR_FINALISTS) * 60 * self._spec.budget.minutes

    def _say(self) -> None:
        trials = self._explorer.trials
        highest = self.levels.levels[-2].name
        trained = [trial for trial in trials if trial.at(highest)]
        meeting = [trial for trial in trained if self._meets(trial)]

        def share(trial: Trial) -> float:
            reached = trial.best_known
            return reached.share if reached is not None and reached.share is not None else 1.0

        self._heard(
            Status(
                trials=len(trials),
                most_trials=self._spec.budget.trials,
                trained=len(trained),
                pruned=sum(trial.ended == "pruned" for trial in trials),
                failed=sum(trial.ended == "failed" for trial in trials),
                running=self._running,
                best=min(meeting, key=share, default=None),
                left_s=max(0.0, 60 * self._spec.budget.minutes - self._spent_s()),
                phase=self._phase,
            )
        )


def _unheard(_: Status) -> None:
    """Ignore how far a study is."""


def _has_control(manifest: RunManifest) -> bool:
    """Return whether a run trained a control of its own."""
    return accuracy_of(manifest.metrics, CONTROL) is not None


def _in_store(store: Store, name: str) -> str:
    store.create()
    return f"sqlite:///{store.root / 'studies' / f'{name}.db'}"
