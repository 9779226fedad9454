"""Search: raise candidates through levels of fidelity, bisect for the border of the goal, explore around it.

What is computed is cached as in any run; what was proposed is in Optuna's storage. So a study that was killed goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.search_spec import Interval, SearchSpec
from pipeline.records.keys import digest_of
from pipeline.store import Store
from stages.prune.weighing.report import ladder
from stages.search.border import next_budget
from stages.search.candidates import Candidate
from stages.search.explore import Explorer
from stages.search.foreseen import Foresight, foresight_of
from stages.search.goal import Goal, goal_of
from stages.search.judging import FINALISTS, Judge
from stages.search.levels import levels_of
from stages.search.raising import Raising
from stages.search.space import Space, space_of
from stages.search.trial import Trial
from stages.search.workers import StudyListener, Workers, unheard

FORESEEN, SKETCHED = 10, 6  # budgets of the first sketch: foreseen, or pruned and re-fitted
BATCH = 4  # candidates that are explored at once
LEAST_FINALISTS, TRIALS_PER_FINALIST = 2, 5  # a study of few candidates exports few
FOR_FINALISTS = 0.35  # of the minutes, kept for exporting and measuring
AROUND = (0.6, 1.4)  # where candidates are explored, as factors of the border's budget
START = 0.5  # the first budget that is trained
NEAR = 1.3  # a budget of the sketch is taken for another within this factor
CLOSE = 1e-3  # two budgets that differ by less, relatively, are one


@dataclass(frozen=True, slots=True)
class Status:
    """Report how far a study is, whenever that changes."""

    phase: str
    trials: tuple[Trial, ...]
    most_trials: int
    running: int
    best: Trial | None
    left_s: float


@dataclass(frozen=True, slots=True)
class Found:
    """Hold what a study found: all candidates, those that were measured, and accuracies on validation data.

    `budget` is the setting that says how much is left.
    """

    goal: Goal
    budget: str
    trials: tuple[Trial, ...]
    finalists: tuple[Trial, ...]
    source: float | None
    control: float | None
    seconds: float
    ran_out: bool


Heard = Callable[[Status], None]


class Study:
    """Run one search to its end. `listener` hears what happens in its runs."""

    def __init__(
        self,
        base: Candidate,
        store: Store,
        workers: Workers,
        storage: str | None = None,
        listener: StudyListener = unheard,
    ) -> None:
        recipe = base.recipe()
        self._spec = recipe.search or SearchSpec()
        if recipe.data is None:
            hint = "add `data:`; `secateur optimize` needs no labels in it"
            raise RecipeError("a search needs data", where=recipe.source.where(("stages",)), hint=hint)
        levels, self.goal = levels_of(recipe), goal_of(recipe, self._spec)
        self._space = space_of(recipe, self._spec, self.goal, levels)
        self._budget = self._space.budget
        self._bounds = (float(self._space.bounds.low), float(self._space.bounds.high))
        self._usual = {**self._space.fixed, **self._space.usual}
        _check_space(base, recipe, self._space)
        self._raising = Raising(base, self.goal, levels, workers, listener)
        self._judge = Judge(self.goal, levels)
        self._recipe, self._store, self._storage = recipe, store, storage
        self._started, self._before_s = time.monotonic(), 0.0
        self._explorer: Explorer | None = None  # until the yardstick tells which study this is
        self._foresight: Foresight | None = None
        self._allocated = list[Trial]()  # foreseen, and not brought any further
        self._phase = ""
        self._heard: Heard = _unheard

    def run(self, heard: Heard) -> Found:
        """Return what was found; SecateurError if not even the recipe itself can be run."""
        self._heard = heard
        self._enter("control")
        yardstick = self._raising.measure_yardstick({**self._usual, self._budget: self._start()})
        self._foresight = foresight_of(yardstick, self._store, self._raising.levels)
        # They cover the model, the data and the versions of what computes.
        keys = sorted(entry.key for entry in yardstick.stages if entry.key is not None)
        name = study_name(self._recipe, self._spec, keys)
        storage = self._storage or _in_store(self._store, name)
        self._explorer = Explorer(storage, name, self._space, self.goal, self._recipe.seed)
        self._before_s = self._explorer.spent_s
        self._sketch(self._explorer)
        self._find_border(self._explorer)
        self._explore(self._explorer)
        while self._allocated:
            self._tell(self._explorer, self._allocated.pop(0))
        self._enter("measured")
        top, level = self._judge.finalists(self._trials, self._most_finalists), self._raising.levels.levels[-1]
        finalists = self._raising.to(top, level, self._say, control=self._raising.levels.trains)
        source, control = self._raising.source, self._raising.control
        return Found(
            self.goal,
            self._budget,
            self._trials,
            tuple(finalists),
            source,
            control,
            self._spent_s(),
            self._out_of_time(),
        )

    # --- phases -----------------------------------------------------------------------------------------------------

    def _sketch(self, explorer: Explorer) -> None:
        """Let budgets of the usual settings be foreseen, or bring some to the first level where nothing foresees them.

        Without an accuracy to keep, those are brought there that spread over the bounds.
        """
        self._enter("allocated")
        known = [self._budget_of(trial) for trial in self._trials]
        few = min(SKETCHED, max(2, self._spec.budget.trials // 2))
        budgets = self._ladder() if self._foresight else ladder(*self._bounds, few)
        missing = [budget for budget in budgets if not any(abs(budget / seen - 1) < CLOSE for seen in known)]
        asked = [self._with_foresight(explorer.ask("levels", budget, self._space.usual)) for budget in missing]
        if self._foresight is not None:
            self._allocated, asked = asked, []
            if self.goal.max_drop is None:
                asked = self._allocated[:: max(1, -(-len(self._allocated) // few))]
                self._allocated = [trial for trial in self._allocated if trial not in asked]
        self._enter("fitted")
        for trial in self._raising.to(asked, self._raising.levels.levels[0], self._say):
            self._tell(explorer, trial)

    def _ladder(self) -> list[float]:
        """Return the budgets that are foreseen: ten, or as many as there may be trials."""
        return ladder(*self._bounds, min(FORESEEN, max(2, self._spec.budget.trials)))

    def _with_foresight(self, trial: Trial) -> Trial:
        """Return a candidate of the usual settings with what is foreseen of it."""
        foreseen = () if self._foresight is None else (self._foresight.at(self._budget_of(trial)),)
        return trial.model_copy(update={"reached": foreseen})

    def _find_border(self, explorer: Explorer) -> None:
        """Bisect the budget at which trained candidates of the usual settings just meet the goal."""
        self._enter("border")
        while self.goal.max_drop is not None and not self._out_of_time():
            known = [(self._budget_of(trial), self._judge.meets(trial)) for trial in self._usual_ones()]
            budget = next_budget(known, self._space.bounds, self._start())
            if budget is None:
                return
            trial = self._take_allocated(budget, [seen for seen, _ in known])
            if trial is None and self._trials_left():
                trial = self._with_foresight(explorer.ask("border", round(budget, 4), self._space.usual))
            if trial is None:
                return
            self._raise(explorer, [trial], may_give_up=False)

    def _take_allocated(self, budget: float, known: Sequence[float]) -> Trial | None:
        """Return the foreseen candidate nearest to a budget, if it is near; and none of the `known` is between."""
        nearest = min(self._allocated, key=lambda trial: abs(log(self._budget_of(trial) / budget)), default=None)
        if nearest is None:
            return None
        low, high = sorted((self._budget_of(nearest), budget))
        if high > NEAR * low or any(low <= seen <= high for seen in known):
            return None
        self._allocated.remove(nearest)
        return nearest.model_copy(update={"why": "border"})

    def _explore(self, explorer: Explorer) -> None:
        """Let the sampler propose candidates around the border until the budget of trials or minutes is used."""
        self._enter("explored")
        low, high = self._bounds
        border = min((self._budget_of(t) for t in self._usual_ones() if self._judge.meets(t)), default=None)
        if border is not None:
            low, high = max(low, AROUND[0] * border), min(high, AROUND[1] * border)
        around = Interval(low=round(low, 4), high=round(high, 4))
        while (left := self._trials_left()) and not self._out_of_time():
            asked = [explorer.ask("explored", around) for _ in range(min(BATCH, left))]
            self._raise(explorer, asked, may_give_up=True)

    def _raise(self, explorer: Explorer, asked: Sequence[Trial], *, may_give_up: bool) -> None:
        """Bring candidates to the level before files are exported; some are given up after the first."""
        levels, on = self._raising.levels, list[Trial]()
        for trial in self._raising.to(asked, levels.levels[0], self._say):
            score = self._judge.score(trial, self._trials)
            hopeless = may_give_up and score is not None and explorer.gives_up(trial, score)
            if trial.ended == "failed" or not levels.trains:
                self._tell(explorer, trial)
            elif hopeless:
                self._tell(explorer, trial.model_copy(update={"ended": "pruned"}))
            else:
                on.append(trial)
        for trial in self._raising.to(on, levels.before_files, self._say):
            self._tell(explorer, trial)

    def _tell(self, explorer: Explorer, trial: Trial) -> None:
        done = trial if trial.ended != "running" else trial.model_copy(update={"ended": "done"})
        share = done.best_known.share if done.best_known is not None else None
        explorer.tell(done, share, self._judge.expected_drop(done, self._trials))
        explorer.spend(self._spent_s())
        self._say()

    # --- what is known ----------------------------------------------------------------------------------------------

    @property
    def _trials(self) -> tuple[Trial, ...]:
        told = self._explorer.trials if self._explorer is not None else ()
        return tuple(sorted((*told, *self._allocated), key=lambda trial: trial.number))

    def _trials_left(self) -> int:
        return max(0, self._spec.budget.trials - len(self._trials))

    def _usual_ones(self) -> list[Trial]:
        """Return the candidates that differ from the recipe in their budget alone, and were trained or failed."""
        usual, level = self._space.usual.items(), self._raising.levels.before_files.name
        alike = [trial for trial in self._trials if all(trial.settings.get(key) == value for key, value in usual)]
        return [trial for trial in alike if trial.at(level) is not None or trial.ended == "failed"]

    def _budget_of(self, trial: Trial) -> float:
        return float(trial.settings[self._budget])

    def _start(self) -> float:
        start = min(max(START, self._bounds[0]), self._bounds[1])
        nearest = min(self._ladder(), key=lambda budget: abs(log(budget / start)))
        return nearest if max(nearest, start) <= NEAR * min(nearest, start) else start

    @property
    def _most_finalists(self) -> int:
        return min(FINALISTS, max(LEAST_FINALISTS, self._spec.budget.trials // TRIALS_PER_FINALIST))

    def _spent_s(self) -> float:
        return self._before_s + time.monotonic() - self._started

    def _out_of_time(self) -> bool:
        return self._spent_s() > (1 - FOR_FINALISTS) * 60 * self._spec.budget.minutes

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._say()

    def _say(self) -> None:
        left_s = max(0.0, 60 * self._spec.budget.minutes - self._spent_s())
        best, most = self._judge.cheapest_that_meets(self._trials), self._spec.budget.trials
        self._heard(Status(self._phase, self._trials, most, self._raising.running, best, left_s))


def _check_space(base: Candidate, recipe: Recipe, space: Space) -> None:
    """Raise RecipeError, at the setting in the recipe, if a value that can be proposed is not allowed."""
    usual = {**space.fixed, space.budget: space.bounds.high}
    for key, dimension in {space.budget: space.bounds, **space.dimensions}.items():
        for value in (dimension.low, dimension.high) if isinstance(dimension, Interval) else dimension:
            try:
                Candidate(base.base, {**usual, key: value}, base.overrides).recipe()
            except RecipeError as error:
                where = recipe.source.where(("search", "space", key))
                raise RecipeError(error.what, where=where, hint=error.hint) from error


def study_name(recipe: Recipe, spec: SearchSpec, keys: Sequence[str]) -> str:
    """Return the name of a study in its storage: it is another one if the recipe or what is looked for changes.

    `keys` are those of the yardstick: a changed model, data or version begins another study too.
    """
    what = [recipe.digest, spec.model_dump(mode="json"), list(keys)]
    return f"{recipe.name}-{digest_of('study', what)[-12:]}"


def _in_store(store: Store, name: str) -> str:
    store.create()
    return f"sqlite:///{store.root / 'studies' / f'{name}.db'}"


def _unheard(_: Status) -> None:
    """Ignore how far a study is."""
