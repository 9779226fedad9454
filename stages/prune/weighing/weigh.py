"""Weigh groups' losses by one search for all targets, and foresee what each target loses by that.

What a search learns is how errors of several layers meet at the output, which hardly depends on how much goes. So it
runs once, part of the way between the network as it is and the least that the settings leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.types import KerasModel
from stages.prune.choosing.choice import ChoiceBasis, Prepared
from stages.prune.choosing.search import WORST
from stages.prune.choosing.searched import Judge, check_held_out, has_choice, judge_of, weighed
from stages.prune.weighing.report import SHARES, ForeseenTarget, WeighingReport
from stages.samples.model_samples import ModelSamples

Classes = NDArray[np.int64]


def weigh(prepared: Prepared, samples: ModelSamples, basis: ChoiceBasis) -> WeighingReport:
    """Return what a search finds for the measure of the goal, whatever its limit, and foresee targets by it.

    It runs where the share `search_at` of what can go is left. Targets that can't be reached are left out.

    Raises PreconditionError if no sample could be held out, ModelError if values in the network are not finite.
    """
    check_held_out(samples)
    goal, at = prepared.goal, prepared.config.search_at
    assert at is not None
    least, most = (goal.cost([float(counts[end]) for counts in prepared.allowed]) for end in (0, -1))
    with judge_of(prepared, samples, basis) as judge:
        search = judge.search(replace(goal, limit=least + at * (most - least))) if has_choice(prepared) else None
        lefts = [left for left in SHARES if least <= left * goal.whole < most]
        targets = _foreseen(judge, weighed(prepared, search), lefts)
    return WeighingReport(measure=goal.measure, search=search, targets=targets)


def _foreseen(judge: Judge, prepared: Prepared, lefts: Sequence[float]) -> tuple[ForeseenTarget, ...]:
    """Return what targets lead to, on the held-out samples; those are left out for which nothing goes."""
    assert prepared.allocate is not None
    full, found = [int(counts[-1]) for counts in prepared.allowed], list[ForeseenTarget]()
    own = _judged(judge, full)[1] if _names_classes(prepared.ranking.model) else None
    for left in lefts:
        goal = replace(prepared.goal, limit=left * prepared.goal.whole)
        counts = prepared.allocate(goal, prepared.allowed)
        if counts != full:
            error, named = _judged(judge, counts)
            found.append(
                ForeseenTarget(
                    left=left,
                    reached=goal.cost(counts) / goal.whole,
                    output_error=error if np.isfinite(error) else WORST,
                    agreement=None if own is None else float((named == own).mean()),
                )
            )
    return tuple(found)


def _names_classes(model: KerasModel) -> bool:
    """Return whether the outputs are one row of scores a sample, at least two."""
    shapes = [tuple(output.shape) for output in model.outputs]
    return len(shapes) == 1 and len(shapes[0]) == 2 and (shapes[0][1] or 0) > 1


def _judged(judge: Judge, counts: Sequence[int]) -> tuple[float, Classes]:
    """Return the error of the outputs with these counts, and the greatest of each sample's first outputs."""
    largest = list[Classes]()

    def heard(inputs: Any) -> Any:
        outputs = judge.run(inputs)
        first = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        largest.append(first.numpy().argmax(axis=-1))
        return outputs

    return judge.error_of(counts, heard), np.concatenate(largest)
