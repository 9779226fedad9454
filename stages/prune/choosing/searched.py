"""Find by trial how much the predicted losses of groups count, and distribute the goal by that."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PreconditionError
from stages.keras.channels.labels import Ids
from stages.keras.closing import before_squashing
from stages.keras.regression.one_thread import one_blas_thread
from stages.keras.regression.output_error import OutputError, Run, at_inference
from stages.keras.regression.samples import HELD_OUT, Samples
from stages.keras.tensorflow import import_tensorflow
from stages.prune.choosing.allocate import Goal, kept_channels
from stages.prune.choosing.allowed_counts import Counts
from stages.prune.choosing.choice import ChoiceBasis, Prepared
from stages.prune.choosing.search import Factors, search
from stages.prune.choosing.spend import counts_by_loss
from stages.prune.choosing.stitched import Stitched
from stages.prune.ranking.criterion import Question
from stages.prune.report import SearchReport
from stages.samples.model_samples import ModelSamples

BATCH = 32  # held-out samples that run at once


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge distributions by the outputs of the network stitched for them, against those of the network as it is.

    Every fifth sample is held out to judge by; on the others layers are re-fitted.
    """

    prepared: Prepared
    stitched: Stitched
    against: OutputError
    run: Run
    basis: ChoiceBasis

    def error_of(self, counts: Sequence[int], run: Run | None = None) -> float:
        """Return the error of the outputs with these counts. `run` replaces what runs the network."""
        ranking = self.prepared.ranking
        self.stitched.keep(kept_channels(ranking.graph, ranking.graph.prunable, self.prepared.orders, counts))
        return self.against.of_outputs(run or self.run)

    def search(self, goal: Goal) -> SearchReport:
        """Return which factors lead to the least error at a goal."""
        groups, tries, heard = self.prepared.ranking.graph.prunable, self.prepared.config.search, self.basis.heard
        found = search(
            lambda factors: tuple(allocate(self.prepared, factors, goal)),
            self.error_of,
            len(groups),
            tries,
            self.basis.seed,
            lambda done: heard(done, tries),
        )
        return SearchReport(
            tried=found.tried,
            output_error=found.error,
            output_error_of_equal=found.error_of_equal,
            factors={group.name: float(factor) for group, factor in zip(groups, found.factors, strict=True)},
        )


def searched(prepared: Prepared, samples: ModelSamples, basis: ChoiceBasis) -> tuple[Prepared, SearchReport | None]:
    """Return `prepared` with a distribution by the factors that a search at its goal finds, and what it found.

    Without a choice between groups there is no search.

    Raises PreconditionError if no sample could be held out or the goal is out of reach, ModelError if values in the
    network are not finite.
    """
    if not has_choice(prepared) or prepared.config.nothing_goes:
        return prepared, None
    check_held_out(samples)
    equal = np.ones(len(prepared.ranking.graph.prunable))
    allocate(prepared, equal, prepared.goal)  # a goal out of reach is told before any work
    with judge_of(prepared, samples, basis) as judge:
        report = judge.search(prepared.goal)
    return weighed(prepared, report), report


def has_choice(prepared: Prepared) -> bool:
    """Return whether there are groups to distribute a goal over."""
    return len(prepared.ranking.graph.prunable) > 1


def check_held_out(samples: ModelSamples) -> None:
    """Raise PreconditionError if no sample could be held out."""
    if samples.count < HELD_OUT:
        raise PreconditionError(
            f"a search holds out every {HELD_OUT}th sample, and there are {samples.count}",
            where="prune.search",
            hint="give it more samples, or leave the search out: search: 0",
        )


def weighed(prepared: Prepared, report: SearchReport | None) -> Prepared:
    """Return `prepared` with a distribution by the factors that a search has found; as it is if there was none."""
    if report is None:
        return prepared
    factors = np.array([report.factors[group.name] for group in prepared.ranking.graph.prunable])
    return replace(prepared, allocate=lambda goal, allowed: allocate(prepared, factors, goal, allowed))


def allocate(prepared: Prepared, factors: Factors, goal: Goal, allowed: Sequence[Counts] | None = None) -> list[int]:
    """Return the counts that a goal leads to, each group's losses times its factor."""
    scores = [factor * own for factor, own in zip(factors, prepared.ranking.scores, strict=True)]
    return counts_by_loss(goal, scores, prepared.allowed if allowed is None else allowed)


@contextmanager
def judge_of(prepared: Prepared, samples: ModelSamples, basis: ChoiceBasis) -> Iterator[Judge]:
    """Look at the samples, and yield what judges distributions by them. ModelError if values are not finite."""
    ranking, tries, heard = prepared.ranking, prepared.config.search, basis.heard
    groups = ranking.graph.prunable
    with one_blas_thread(), tempfile.TemporaryDirectory(prefix="secateur-", dir=basis.folder) as name:
        every, fitted = _halves(samples)
        heard(0, tries)
        question = Question(ranking.model, groups, basis.seed, fitted, lambda *_: heard(0, tries))
        stitched = Stitched.of(question, Path(name))
        against = OutputError.against(ranking.model, every, Path(name) / "outputs")
        with before_squashing(stitched.model) as open_ended:
            run: Callable[[Any], Any] = import_tensorflow().function(at_inference(open_ended), reduce_retracing=True)
            yield Judge(prepared, stitched, against, run, basis)


def _halves(samples: ModelSamples) -> tuple[Samples, ModelSamples]:
    """Return all samples, of which some are held out, and those that are not."""

    def take(places: Ids) -> list[NDArray[Any]]:
        first = int(places[0])
        return [array[places - first] for array in samples.read(first, int(places[-1]) + 1)[0]]

    numbers = np.arange(samples.count)
    every = Samples(numbers, BATCH, take)
    fitted = np.setdiff1d(numbers, every.held_out)
    return every, ModelSamples(fitted.size, lambda start, stop: (take(fitted[start:stop]), None))
