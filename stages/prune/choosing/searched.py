"""Find by trial how much the predicted losses of groups count, and distribute the goal by that."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PreconditionError
from stages.keras.channels.labels import Ids
from stages.keras.closing import before_squashing
from stages.keras.regression.one_thread import one_blas_thread
from stages.keras.regression.output_error import OutputError, at_inference
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


@one_blas_thread()
def searched(prepared: Prepared, samples: ModelSamples, basis: ChoiceBasis) -> tuple[Prepared, SearchReport | None]:
    """Return `prepared` with a distribution by the factors that a search finds, and what it found.

    A distribution is judged by the outputs of the network stitched for it, against those of the network as it is, on
    every fifth sample; on the others its layers are re-fitted. Without a choice between groups there is no search.

    Raises PreconditionError if no sample could be held out or the goal is out of reach, ModelError if values in the
    network are not finite.
    """
    ranking, tries, heard = prepared.ranking, prepared.config.search, basis.heard
    groups = ranking.graph.prunable
    if len(groups) < 2 or prepared.config.nothing_goes:
        return prepared, None
    if samples.count < HELD_OUT:
        raise PreconditionError(
            f"a search holds out every {HELD_OUT}th sample, and there are {samples.count}",
            where="prune.search",
            hint="give it more samples, or leave the search out: search: 0",
        )

    def allocate(factors: Factors, goal: Goal, allowed: Sequence[Counts]) -> list[int]:
        scores = [factor * own for factor, own in zip(factors, ranking.scores, strict=True)]
        return counts_by_loss(goal, scores, allowed)

    allocate(np.ones(len(groups)), prepared.goal, prepared.allowed)  # a goal out of reach is told before any work
    with tempfile.TemporaryDirectory(prefix="secateur-", dir=basis.folder) as name:
        every, fitted = _halves(samples)
        heard(0, tries)
        question = Question(ranking.model, groups, basis.seed, fitted, lambda *_: heard(0, tries))
        stitched = Stitched.of(question, Path(name))
        error = OutputError.against(ranking.model, every, Path(name) / "outputs")
        with before_squashing(stitched.model) as open_ended:
            run = import_tensorflow().function(at_inference(open_ended), reduce_retracing=True)

            def error_of(counts: Sequence[int]) -> float:
                stitched.keep(kept_channels(ranking.graph, groups, prepared.orders, counts))
                return error.of_outputs(run)

            found = search(
                lambda factors: tuple(allocate(factors, prepared.goal, prepared.allowed)),
                error_of,
                len(groups),
                tries,
                basis.seed,
                lambda done: heard(done, tries),
            )
    report = SearchReport(
        tried=found.tried,
        output_error=found.error,
        output_error_of_equal=found.error_of_equal,
        factors={group.name: float(factor) for group, factor in zip(groups, found.factors, strict=True)},
    )
    return replace(prepared, allocate=lambda goal, allowed: allocate(found.factors, goal, allowed)), report


def _halves(samples: ModelSamples) -> tuple[Samples, ModelSamples]:
    """Return all samples, of which some are held out, and those that are not."""

    def take(places: Ids) -> list[NDArray[Any]]:
        first = int(places[0])
        return [array[places - first] for array in samples.read(first, int(places[-1]) + 1)[0]]

    numbers = np.arange(samples.count)
    every = Samples(numbers, BATCH, take)
    fitted = np.setdiff1d(numbers, every.held_out)
    return every, ModelSamples(fitted.size, lambda start, stop: (take(fitted[start:stop]), None))
