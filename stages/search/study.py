"""Search: raise candidates through levels of fidelity, bisect for the border of the goal, explore around it.

Without an accuracy to keep there is no border: the gaps of the front are filled instead.

What is computed is cached as in any run; what was proposed is in Optuna's storage. So a study that was killed goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.errors import RecipeError
from pipeline.recipe.search_spec import Interval, SearchSpec
from pipeline.store import Store
from stages.devices.target import find_target
from stages.search.border import nearest_of, next_budget, safer_budget
from stages.search.candidates import Candidate
from stages.search.explore import Explorer, reaching, storage_in, study_name
from stages.search.foreseen import Foreseen, foreseen_by
from stages.search.gaps import widest_gap
from stages.search.goal import Goal, goal_of
from stages.search.judging import Judge, most_finalists
from stages.search.levels import levels_of
from stages.search.raising import Raising
from stages.search.space import Space, check_values, in_brief, on_device, space_of
from stages.search.trial import FileFigures, Trial, fitting
from stages.search.workers import StudyListener, Workers, unheard

SKETCHED = 6  # budgets of the first sketch
BATCH = 4  # candidates that are explored at once
FOR_FINALISTS, MOST_FOR_FINALISTS_S = 0.35, 360  # of the minutes, kept for exporting and measuring; seconds at most
AND_ON_TEST_DATA = 1.5  # times as long as measuring a finalist takes its part of the final table as well
AROUND = (0.6, 1.4)  # where candidates are explored, as factors of the border's budget
START, OF_LATENCY = 0.5, 0.7  # the first budget that is trained
LATENCY = "latency"  # names of metrics begin so
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
    """Hold what a study found: all candidates, those measured, and accuracies on `samples` of validation data.

    `unpruned` is the source, with what its files cost and lose. `foreseen` are those that differ in their budget alone,
    whether they were tried or not. `chance` is the standard error of a drop on these samples.
    """

    goal: Goal
    trials: tuple[Trial, ...]
    finalists: tuple[Trial, ...]
    unpruned: Trial | None
    foreseen: tuple[Foreseen, ...]
    source: float | None
    control: float | None
    seconds: float
    ran_out: bool
    samples: int | None
    chance: float


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
        self._take(space_of(recipe, self._spec, self.goal, levels))
        check_values(self._space, base)
        self._raising = Raising(base, self.goal, levels, workers, listener)
        self._judge = Judge(self.goal, levels)
        self._recipe, self._store, self._storage = recipe, store, storage
        self._started, self._before_s = time.monotonic(), 0.0
        self._explorer: Explorer | None = None  # until the yardstick tells which study this is
        self._foreseen: tuple[Foreseen, ...] = ()
        self._phase = ""
        self._heard: Heard = _unheard

    def run(self, heard: Heard) -> Found:
        """Return what was found; SecateurError if not even the recipe itself can be run."""
        self._heard = heard
        self._enter("source")
        unpruned = self._raising.unpruned()
        plain = {file.axis: file for file in unpruned.files} if unpruned is not None else {}
        file, axis = plain.get(self.goal.axis or ""), None
        if self._measures_candidates():
            if self.goal.axis is None:
                file = self._cheapest_file()
            axis = self.goal.axis or (file.axis if file is not None else None)
        if axis is not None:
            self._take(on_device(self._space, self._recipe, self.goal, self._raising.levels, axis))
        self._judge = replace(self._judge, file_loss=file.drop or 0.0 if file is not None else 0.0)
        self._enter("control")
        yardstick = self._raising.measure_yardstick({**self._usual, self._budget: self._start()})
        self._judge = replace(self._judge, chance=self._raising.chance)
        self._foreseen = foreseen_by(yardstick, self._store, self._raising.levels.prune, self._space)
        # They cover the model, the data and the versions of what computes.
        keys = sorted(entry.key for entry in yardstick.stages if entry.key is not None)
        name = study_name(self._recipe, self._spec, [*keys, axis or ""])
        storage = self._storage or storage_in(self._store, name)
        with reaching(storage):
            self._explorer = Explorer(storage, name, self._space, self.goal, self._recipe.seed)
            finalists = self._searched(self._explorer)
            return self._found(finalists, unpruned)

    def _searched(self, explorer: Explorer) -> list[Trial]:
        """Return the finalists, exported and measured."""
        self._before_s = explorer.spent_s
        if self.goal.max_drop is None and self._raising.levels.trains:
            self._fill_gaps(explorer)
        else:
            self._sketch(explorer)
            self._find_border(explorer)
        self._explore(explorer)
        self._enter("measured")
        return self._measured(self._judge.finalists(self._trials, most_finalists(self._spec.budget.trials)))

    def _found(self, finalists: Sequence[Trial], unpruned: Trial | None) -> Found:
        raising, out_of_time = self._raising, self._out_of_time()
        return Found(
            goal=self.goal,
            trials=self._trials,
            finalists=tuple(finalists),
            unpruned=unpruned.against(raising.yardstick) if unpruned is not None else None,
            foreseen=self._foreseen,
            source=raising.source,
            control=raising.control,
            seconds=self._spent_s(),
            ran_out=out_of_time,
            samples=raising.samples,
            chance=raising.chance,
        )

    def _take(self, space: Space) -> None:
        self._space, self._budget = space, space.budget
        self._bounds = (float(space.bounds.low), float(space.bounds.high))
        self._usual = {**space.fixed, **space.usual}

    def _measures_candidates(self) -> bool:
        """Return whether pruned networks are measured before they are trained: workers side by side can't."""
        goal, workers = self.goal, self._raising.workers
        if goal.target is None or not goal.cost.name.startswith(LATENCY) or workers.side_by_side:
            return False
        return not find_target(goal.target, self._recipe.folder).counts

    def _cheapest_file(self) -> FileFigures | None:
        """Return the fastest file of the network that is tried first, which is hardly trained."""
        self._enter("file")
        first = {**self._usual, self._budget: self._start(), **in_brief(self._recipe)}
        return self._raising.cheapest_file(first)

    def _measured(self, top: Sequence[Trial]) -> list[Trial]:
        """Export and measure the first, and as many others as the time allows, two of them at least."""
        level, began = self._raising.levels.levels[-1], time.monotonic()
        control = self._raising.levels.trains
        first = self._raising.to(top[:1], level, self._say, control=control)
        each_s = AND_ON_TEST_DATA * (time.monotonic() - began)
        fit = int((self._left_s() - each_s / 2) / each_s)
        return [*first, *self._raising.to(top[1 : 1 + max(2, fit)], level, self._say, control=control)]

    # --- phases -----------------------------------------------------------------------------------------------------

    def _sketch(self, explorer: Explorer) -> None:
        """Bring candidates of the usual settings and some budgets to the first level.

        Where there is a border to bisect, this is left out if training says more of budgets, or one search has foreseen
        what they lead to.
        """
        if self.goal.max_drop is not None and (self._foreseen or self._raising.levels.trains):
            return
        self._enter("fitted")
        low, high = self._bounds
        count = min(SKETCHED, max(2, self._spec.budget.trials // 2))
        budgets = [round(low * (high / low) ** (place / (count - 1)), 4) for place in range(count)]
        known = [self._budget_of(trial) for trial in self._trials]
        missing = [budget for budget in budgets if not any(abs(budget / seen - 1) < CLOSE for seen in known)]
        asked = [explorer.ask("levels", budget, self._space.usual) for budget in missing]
        for trial in self._raising.to(asked, self._raising.levels.levels[0], self._say):
            self._tell(explorer, trial)

    def _find_border(self, explorer: Explorer) -> None:
        """Bisect the budget at which trained candidates of the usual settings just meet the goal."""
        self._enter("border")
        while self.goal.max_drop is not None and self._may_train():
            usual = self._usual_ones()
            known = [(self._budget_of(t), self._judge.meets(t)) for t in usual if t.ended != "failed"]
            impossible = [self._budget_of(trial) for trial in usual if trial.ended == "failed"]
            budget = next_budget(known, self._space.bounds, self._start(), impossible)
            if budget is None and not any(self._judge.has_to_spare(trial) for trial in usual):
                budget = safer_budget(known, self._space.bounds)
            if budget is None:
                return
            self._try(explorer, "border", budget)

    def _fill_gaps(self, explorer: Explorer) -> None:
        """Train candidates of the usual settings, each in the widest gap that the front has so far."""
        self._enter("gaps")
        while self._may_train():
            known = [(self._budget_of(trial), self._judge.trained_drop(trial)) for trial in self._usual_ones()]
            budget = widest_gap(known, self._space.bounds)
            if budget is None:
                return
            self._try(explorer, "gaps", budget)

    def _try(self, explorer: Explorer, why: str, budget: float) -> None:
        """Train a candidate of the usual settings: of a budget that was foreseen, if one tells as much."""
        offered = [one.budget for one in self._foreseen if self._bounds[0] <= one.budget <= self._bounds[1]]
        budget = nearest_of(offered, budget, [self._budget_of(trial) for trial in self._usual_ones()])
        self._raise(explorer, [explorer.ask(why, round(budget, 4), self._space.usual)], may_give_up=False)

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
            if not self._raise(explorer, asked, may_give_up=True):
                return

    def _raise(self, explorer: Explorer, asked: Sequence[Trial], *, may_give_up: bool) -> bool:
        """Bring candidates to the level before files are exported; some are given up after the first.

        Return False if one of them had to be given up for lack of time.
        """
        levels, on = self._raising.levels, list[Trial]()
        for trial in self._raising.to(asked, levels.levels[0], self._say):
            hopeless = may_give_up and self._is_hopeless(explorer, trial)
            if trial.ended == "failed" or not levels.trains:
                self._tell(explorer, trial)
            elif hopeless:
                self._tell(explorer, trial.model_copy(update={"ended": "pruned"}))
            else:
                on.append(trial)
        left_s = self._time_to_explore_s() - self._spent_s()
        fit = fitting(on, self._trials, levels.before_files.name, left_s) if may_give_up else len(on)
        for trial in on[fit:]:
            self._tell(explorer, trial.model_copy(update={"ended": "pruned", "reason": "no time to train it"}))
        for trial in self._raising.to(on[:fit], levels.before_files, self._say):
            self._tell(explorer, trial)
        return fit == len(on)

    def _is_hopeless(self, explorer: Explorer, trial: Trial) -> bool:
        """Return whether a candidate should not be trained, by what it is before that."""
        score = self._judge.score(trial, self._trials)
        if score is None:
            return self._judge.is_behind(trial, self._trials)
        return explorer.gives_up(trial, score)

    def _tell(self, explorer: Explorer, trial: Trial) -> None:
        done = trial if trial.ended != "running" else trial.model_copy(update={"ended": "done"})
        share = done.best_known.share if done.best_known is not None else None
        explorer.tell(done, share, self._judge.expected_drop(done, self._trials), self._judge.most)
        explorer.spend(self._spent_s())
        self._say()

    # --- what is known ----------------------------------------------------------------------------------------------

    @property
    def _trials(self) -> tuple[Trial, ...]:
        return self._explorer.trials if self._explorer is not None else ()

    def _trials_left(self) -> int:
        return max(0, self._spec.budget.trials - len(self._trials))

    def _may_train(self) -> bool:
        """Return whether trials and time are left; the first candidate was trained with the control, and costs none."""
        return self._trials_left() > 0 and not (self._trials and self._out_of_time())

    def _usual_ones(self) -> list[Trial]:
        """Return the candidates that differ from the recipe in their budget alone, and were trained or failed."""
        usual, level = self._space.usual.items(), self._raising.levels.before_files.name
        alike = [trial for trial in self._trials if all(trial.settings.get(key) == value for key, value in usual)]
        return [trial for trial in alike if trial.at(level) is not None or trial.ended == "failed"]

    def _budget_of(self, trial: Trial) -> float:
        return float(trial.settings[self._budget])

    def _start(self) -> float:
        start = OF_LATENCY if self._budget.endswith(f".{LATENCY}") else START
        return min(max(start, self._bounds[0]), self._bounds[1])

    def _spent_s(self) -> float:
        return self._before_s + time.monotonic() - self._started

    def _time_to_explore_s(self) -> float:
        whole_s = 60 * self._spec.budget.minutes
        return whole_s - min(FOR_FINALISTS * whole_s, MOST_FOR_FINALISTS_S)

    def _out_of_time(self) -> bool:
        return self._spent_s() > self._time_to_explore_s()

    def _left_s(self) -> float:
        return max(0.0, 60 * self._spec.budget.minutes - self._spent_s())

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._say()

    def _say(self) -> None:
        best, most = self._judge.cheapest_that_meets(self._trials), self._spec.budget.trials
        self._heard(Status(self._phase, self._trials, most, self._raising.running, best, self._left_s()))


def _unheard(_: Status) -> None:
    """Ignore how far a study is."""
