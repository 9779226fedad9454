"""Bring candidates to a level of fidelity, and read off what they reached there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.errors import RecipeError, SecateurError
from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import CONTROL, SOURCE, RunManifest
from pipeline.records.values import Json
from stages.search.candidates import Candidate
from stages.search.chance import chance_of
from stages.search.goal import Goal
from stages.search.levels import Level, Levels, accuracy_of, samples_of, share_left, yardstick_of
from stages.search.trial import FileFigures, Reached, Trial, dropped, figures_of
from stages.search.untouched import untouched
from stages.search.workers import StudyListener, Workers

UNPRUNED = -1  # its number among candidates
HOPELESS = 3.0  # times the goal: files of a network that is hardly trained lose more than those of better ones
JUDGED: dict[str, Json] = {"data.judge_on": "validation"}  # nothing is chosen by what test data say


@dataclass(slots=True)
class Raising:
    """Run candidates of a base recipe. `source`, `control`, `yardstick` are accuracies on `samples`, once measured."""

    base: Candidate
    goal: Goal
    levels: Levels
    workers: Workers
    listener: StudyListener
    source: float | None = None
    control: float | None = None
    yardstick: float | None = None
    samples: int | None = None
    running: int = field(default=0, init=False)

    @property
    def chance(self) -> float:
        """Return the standard error of a drop."""
        return chance_of(self.yardstick, self.samples, self.goal.max_drop)

    def measure_yardstick(self, settings: dict[str, Json]) -> RunManifest:
        """Measure the source, and train it as candidates are trained: a drop is from the better of the two.

        Return the run of the candidate that is made for it. Raises RecipeError if there is no accuracy, and whatever
        fails.
        """
        level = self.levels.before_files
        recipe = self._recipe(settings, control=self.levels.trains)
        ((_, ended),) = self.workers.run([recipe], level.until, self.listener)
        if isinstance(ended, SecateurError):
            raise ended
        self.source, self.control = (accuracy_of(ended.metrics, name) for name in (SOURCE, CONTROL))
        self.yardstick, self.samples = yardstick_of(ended.metrics), samples_of(ended)
        if self.source is None:
            what = "the accuracy of the source is not measured, so that candidates can't be told apart"
            hint = "give labels of one output of classes; `secateur optimize` makes some up where there are none"
            raise RecipeError(what, where=recipe.source.where(("data",)), hint=hint)
        return ended

    def unpruned(self) -> Trial | None:
        """Return the source as it is, with its files: what a user has without pruning; None if it fails."""
        settings = untouched(self.base.recipe())
        recipe = Candidate(self.base.base, {**settings, **JUDGED}, self.base.overrides).recipe()
        ((_, ended),) = self.workers.run([recipe], None, self.listener)
        if isinstance(ended, SecateurError):
            return None
        files = figures_of(ended, self.goal, accuracy_of(ended.metrics, SOURCE))
        return Trial(number=UNPRUNED, settings=settings, why="unpruned", files=files, run_id=ended.run_id, ended="done")

    def cheapest_file(self, settings: dict[str, Json]) -> FileFigures | None:
        """Return which exported file of a recipe costs least; None if none has the goal's cost.

        Its drop is what it loses against its own network. Files that lose many times the goal so, or are beyond its
        limits, come last. Raises whatever fails.
        """
        recipe = self._recipe(settings, control=False)
        ((_, ended),) = self.workers.run([recipe], self.levels.levels[-1].until, self.listener)
        if isinstance(ended, SecateurError):
            raise ended
        own, most = accuracy_of(ended.metrics, self.levels.levels[-1].named), self.goal.max_drop

        def rank(file: FileFigures) -> tuple[bool, bool, float]:
            lossy = most is not None and file.drop is not None and file.drop > HOPELESS * most
            return lossy, not file.within(self.goal.limits), file.cost

        return min(figures_of(ended, self.goal, own), key=rank, default=None)

    def to(
        self, trials: Sequence[Trial], level: Level, say: Callable[[], None], *, control: bool = False
    ) -> list[Trial]:
        """Return candidates with what they reached at a level; those that failed end there. `say` hears of each."""
        self.running = len(trials)
        say()
        raised, begun = list(trials), time.monotonic()
        recipes = [self._recipe(trial.settings, control=control) for trial in trials]
        for index, ended in self.workers.run(recipes, level.until, self.listener):
            now = time.monotonic()
            self.running, took, begun = self.running - 1, now - begun, now
            if isinstance(ended, SecateurError):
                raised[index] = trials[index].model_copy(update={"ended": "failed", "reason": ended.what})
            else:
                raised[index] = self._reached(trials[index], level, ended, took)
            say()
        return raised

    def _recipe(self, settings: dict[str, Json], *, control: bool) -> Recipe:
        own = {**settings, **JUDGED, "control": control}
        return Candidate(self.base.base, own, self.base.overrides).recipe()

    def _reached(self, trial: Trial, level: Level, manifest: RunManifest, wall_s: float) -> Trial:
        has_control = accuracy_of(manifest.metrics, CONTROL) is not None
        yardstick = yardstick_of(manifest.metrics) if has_control or self.yardstick is None else self.yardstick
        accuracy = accuracy_of(manifest.metrics, level.named)
        reached = Reached(
            level=level.name,
            accuracy=accuracy,
            drop=dropped(accuracy, yardstick),
            share=share_left(manifest.metrics, self.levels),
            wall_s=round(wall_s, 3),
        )
        files = figures_of(manifest, self.goal, yardstick) if level.until is None else ()
        update = {"reached": (*trial.reached, reached), "files": files, "run_id": manifest.run_id}
        return trial.model_copy(update=update)
