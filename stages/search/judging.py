"""Judge candidates by what they reached: who meets the goal, who should go on, who is exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from stages.search.front import front
from stages.search.goal import Goal
from stages.search.levels import Levels
from stages.search.trial import Trial, pairs_of, smoothed_drops

LEAST_FINALISTS, FINALISTS, TRIALS_PER_FINALIST = 2, 5, 5  # a study of few candidates exports few
LEFT_BY_TRAINING = 0.5  # of the drop before it, until candidates tell
LEAST_DROP = 1e-3  # below it a goal's drop is no unit to count others in


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge the candidates of one goal. `file_loss` is what the source loses in the file that counts.

    `chance` is the standard error of a drop on validation data.
    """

    goal: Goal
    levels: Levels
    file_loss: float = 0.0
    chance: float = 0.0

    @property
    def most(self) -> float | None:
        """Return how much a candidate may lose before its file is made: the file's own loss and chance come on top.

        It is half of the goal at least, since on few samples all of them are mostly luck.
        """
        return None if self.goal.max_drop is None else max(self.goal.max_drop / 2, self._left_to_lose)

    @property
    def _left_to_lose(self) -> float:
        return (self.goal.max_drop or 0.0) - max(0.0, self.file_loss) - self.chance

    def has_to_spare(self, trial: Trial) -> bool:
        """Return whether a candidate's file is expected to meet the goal with chance to spare."""
        drop = self.trained_drop(trial)
        return drop is not None and self.goal.max_drop is not None and drop <= max(0.0, self._left_to_lose)

    def meets(self, trial: Trial) -> bool:
        """Return whether a candidate met the goal's accuracy at the level before files are exported."""
        drop, most = self.trained_drop(trial), self.most
        return drop is not None and most is not None and drop <= most

    def cheapest_that_meets(self, trials: Sequence[Trial]) -> Trial | None:
        """Return the candidate that leaves least of the source and meets the goal's accuracy; None if none does."""
        return min((trial for trial in trials if self.meets(trial)), key=_share, default=None)

    def expected_drop(self, trial: Trial, trials: Sequence[Trial]) -> float | None:
        """Return what a candidate loses, or would after training, by what training gave back in `trials`."""
        reached = trial.best_known
        if reached is None or reached.drop is None:
            return None
        untrained = self.levels.trains and reached.level == "fitted"
        return _left_by_training(trials) * reached.drop if untrained else reached.drop

    def score(self, trial: Trial, trials: Sequence[Trial]) -> float | None:
        """Return what a candidate costs, raised by how far its expected drop misses the goal; low is good."""
        drop, most = self.expected_drop(trial, trials), self.most
        if drop is None or most is None:
            return None
        return _share(trial) * (1 + max(0.0, drop - most) / max(most, LEAST_DROP))

    def trained_drop(self, trial: Trial) -> float | None:
        """Return what a candidate lost at the level before files are exported; None if it has not got there."""
        reached = trial.at(self.levels.before_files.name)
        return reached.drop if reached is not None else None

    def is_behind(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        """Return whether another candidate was more accurate at the first level and costs no more."""
        level = self.levels.levels[0].name
        mine, others = trial.at(level), [other for other in trials if other.number != trial.number]
        if mine is None or mine.drop is None:
            return False
        known = [(_share(other), at.drop) for other in others if (at := other.at(level)) is not None]
        return any(share <= _share(trial) and drop is not None and drop < mine.drop for share, drop in known)

    def finalists(self, trials: Sequence[Trial], count: int = FINALISTS) -> list[Trial]:
        """Return the candidates to export, `count` at most: of the front those that just meet the goal, and the next.

        Drops are smoothed, so that luck on validation data decides less.
        """
        drops = smoothed_drops(trials, self.levels.before_files.name)
        best = front([trial for trial in trials if trial.number in drops], lambda t: (_share(t), drops[t.number]))
        most = self.most
        if most is None:
            return best[:: max(1, -(-len(best) // count))]
        meets = [trial for trial in best if drops[trial.number] <= most]
        misses = [trial for trial in best if drops[trial.number] > most]
        return [*meets[: count - 1], *misses[::-1]][:count]


def most_finalists(trials: int) -> int:
    """Return how many candidates are exported at most in a study of so many."""
    return min(FINALISTS, max(LEAST_FINALISTS, trials // TRIALS_PER_FINALIST))


def _share(trial: Trial) -> float:
    reached = trial.best_known
    return reached.share if reached is not None and reached.share is not None else 1.0


def _left_by_training(trials: Sequence[Trial]) -> float:
    pairs = [(low.drop, high.drop) for low, high in pairs_of(trials, "fitted", "trained")]
    shares = [high / low for low, high in pairs if low is not None and low > 0 and high is not None]
    return max(0.0, median(shares)) if shares else LEFT_BY_TRAINING
