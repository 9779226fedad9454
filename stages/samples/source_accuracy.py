"""Measure a source's accuracy before anything is made of it, and find the preprocessing that it was trained with.

A source that is no better than chance makes all later results worthless, and nearly always its inputs differ from those
that it was trained on. `init` and `optimize` measure on training samples: the test split is for reporting alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.data import Split
from stages.keras.macs import count_macs
from stages.keras.types import KerasModel
from stages.samples.batches import Progress, unheard
from stages.samples.label_order import reordered
from stages.samples.preprocess_trial import Tried, can_be_measured, try_preprocessing
from stages.samples.proportions import wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_SAMPLES = 50  # fewer can't distinguish a classifier from guessing
BETTER = 0.25  # of the way from chance to no error, which an untrained network does not reach by luck
MOST_MEASURED, LEAST_MEASURED = 1000, 100  # samples, unless the split has fewer
WORK = 1e11  # MACs of one trial: ten seconds of one core


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold a source's accuracy, with the given preprocessing (the first of `tried`) and with other usual ones.

    `chance` is the accuracy of guessing; `chosen` is the given one, unless another one is surely better, by a paired
    test and three standard deviations, and surely above chance. `order` is the number by which the model knows each
    class of the data, and `ordered` is a trial with labels in that order, if it is far better than all of `tried`;
    else both are None.
    """

    classes: int
    chance: float
    tried: tuple[Tried, ...]
    chosen: Tried
    order: tuple[int, ...] | None = None
    ordered: Tried | None = None

    @property
    def as_given(self) -> Tried:
        return self.tried[0]

    @property
    def proved(self) -> bool:
        """Return whether the chosen preprocessing is surely that of the training: far above chance, and in order."""
        enough = self.chosen.samples >= LEAST_SAMPLES
        return enough and self.ordered is None and is_far_above(self.chosen, self.chance)


def why_unmeasured(model: KerasModel, split: Split) -> str | None:
    """Return why the accuracy of `model` can't be measured on a split that fits it; None if it can."""
    if not split.labelled:
        return "there are no labels: agreement with the source takes the place of accuracy"
    if len(model.inputs) > 1 or len(model.outputs) > 1:
        return "it is measured for one input and one output"
    if split.kind != "classes":
        return f"{split.kind} has no classes to be right about, so scales can't be told apart"
    return None if can_be_measured(model, split) else "its output is not one row a sample"


def measure(model: KerasModel, split: Split, progress: Progress = unheard) -> Measured:
    """Return how accurate `model` is on some samples of `split`, and with which preprocessing; see `why_unmeasured`.

    It takes 1,000 samples, or as many as large networks can do in seconds, at least 100.
    """
    tried = tuple(try_preprocessing(model, split, sample_count(count_macs(model)), progress))
    classes = max(int(model.outputs[0].shape[-1]), 2)
    chance = chance_of(split.y, classes)
    best = better(tried)
    chosen = best if best is not None and best.surely_above(chance) else tried[0]
    found = reordered(tried, classes)
    if found is not None and is_far_above(found[0], max(chance, chosen.accuracy)):
        return Measured(classes, chance, tried, chosen, order=found[1], ordered=found[0])
    return Measured(classes, chance, tried, chosen)


def sample_count(macs: int) -> int:
    """Return on how many samples a network of so many MACs is measured."""
    return min(MOST_MEASURED, max(LEAST_MEASURED, int(WORK / max(macs, 1))))


def chance_of(labels: NDArray[Any], classes: int) -> float:
    """Return the accuracy of always predicting the most frequent class, or a random one, whichever is larger."""
    import numpy as np

    counts = np.unique(np.asarray(labels).reshape(-1), return_counts=True)[1]
    return max(1 / max(classes, 2), float(counts.max() / counts.sum()))


def is_at_chance(accuracy: float, samples: int, chance: float) -> bool:
    """Return whether the 95 % interval of an accuracy contains `chance`, or is below it; False with too few samples."""
    return samples >= LEAST_SAMPLES and wilson_interval(accuracy * samples, samples)[0] <= chance


def is_far_above(trial: Tried, chance: float) -> bool:
    """Return whether an accuracy is so far from chance that an untrained network does not reach it by luck."""
    return trial.surely_above(chance + BETTER * (1 - chance))


def better(tried: Sequence[Tried]) -> Tried | None:
    """Return the best of the others, if it is surely better than the current one, which is the first; else None."""
    best = max(tried[1:], key=lambda trial: trial.correct, default=None)
    return best if best is not None and best.surely_better(tried[0]) else None
