"""Evaluate a classifier under each usual preprocessing, to find the right one.

A network that was trained on 0…255 and is given 0…1 predicts one class for all. Nothing in a model's file says what it
was trained on, but a few hundred labelled samples do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.data import Preprocess, Split
from stages.keras.accuracy import predictor
from stages.keras.types import KerasModel
from stages.samples.batches import Progress, spread_over, unheard
from stages.samples.proportions import surely_more, wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = 400
BATCH = 32  # after each, what is surely worse than the best is tried no further
COLORS = 3
GRID = 3  # dimensions with that of the samples
RANGES = {"0…1": (0.0, 1.0), "-1…1": (-1.0, 1.0), "0…255": (0.0, 255.0)}  # narrow ones first
SURE = 3.0  # standard deviations, since several are tried
AS_NOW = "as now"
AS_STORED = "as stored"


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """Hold a preprocessing, the range it gives, and the classes (n,) of samples: predicted with it, and their labels.

    All trials see the same samples in the same order; those that were surely worse than another one saw only the first.
    """

    name: str
    preprocess: Preprocess
    predicted: NDArray[Any]
    labels: NDArray[Any]

    @property
    def samples(self) -> int:
        return len(self.labels)

    @property
    def hits(self) -> NDArray[Any]:
        """Return which samples (n,) are classified correctly."""
        hits: NDArray[Any] = self.predicted == self.labels
        return hits

    @property
    def correct(self) -> int:
        return int(self.hits.sum())

    @property
    def accuracy(self) -> float:
        return self.correct / self.samples

    def surely_above(self, share: float) -> bool:
        """Return whether the accuracy is above a share, by three standard deviations."""
        return wilson_interval(self.correct, self.samples, SURE)[0] > share

    def surely_better(self, other: Tried) -> bool:
        """Return whether it classifies more samples correctly, of those that both saw, by three standard deviations."""
        both = min(self.samples, other.samples)
        mine, its = self.hits[:both], other.hits[:both]
        return surely_more(int((mine & ~its).sum()), int((its & ~mine).sum()), SURE)


def can_be_measured(model: KerasModel, split: Split) -> bool:
    """Return whether this is a classifier, with one input and one output of a row per sample, and labels for it."""
    single = len(model.inputs) == len(model.outputs) == 1 and not isinstance(split.x, Mapping)
    single = single and isinstance(split.preprocess, Preprocess)
    labelled = not isinstance(split.task, Mapping) and split.kind == "classes" and split.labelled
    return bool(single and labelled and len(model.outputs[0].shape) == 2)


def can_be_tried(model: KerasModel, split: Split) -> bool:
    """Return whether there is a choice: a classifier with one output and one input of real numbers.

    Grids can be in several ranges. Of a vector there is a choice only if it is preprocessed: to leave that out.
    """
    return can_be_measured(model, split) and model.inputs[0].dtype == "float32" and _has_choice(split)


def _has_choice(split: Split) -> bool:
    return len(split.input_shapes()[0]) > 1 or split.preprocess != Preprocess()


def try_preprocessing(
    model: KerasModel, split: Split, samples: int = SAMPLES, progress: Progress = unheard
) -> list[Tried]:
    """Return what `model` classifies correctly of at most `samples` samples, with the current and other preprocessing.

    The samples are spread evenly over the split. The first trial is the split's own preprocessing, which sees all of
    them. If it is one, none at all is always among the others; without a choice (`can_be_tried`) there are no others.
    """
    import numpy as np

    # Mixed, so that the first samples already are of all classes.
    indices = np.random.default_rng(0).permutation(spread_over(len(split), samples))
    stored = replace(split, preprocess=Preprocess())
    now = split.preprocess
    assert isinstance(now, Preprocess)  # `can_be_measured`: one input
    others = other_ways(np.asarray(stored.take(indices[: 2 * BATCH])[0]), now) if can_be_tried(model, split) else {}
    nothing = np.zeros(0, np.int64)
    running = [Tried(name, way, nothing, nothing) for name, way in {AS_NOW: now, **others}.items()]
    ended: dict[str, Tried] = {}
    predict = predictor(model)
    for start in range(0, len(indices), BATCH):
        # Read without preprocessing once, and preprocessed in each way from there.
        raw, labels = stored.take(indices[start : start + BATCH])
        running = [_seeing(trial, predict(trial.preprocess(raw)), labels) for trial in running]
        ended |= {trial.name: trial for trial in running[1:] if _is_surely_worse(trial, running)}
        running = [trial for trial in running if trial.name not in ended]
        progress(min(start + BATCH, len(indices)), len(indices))
    seen = {trial.name: trial for trial in running} | ended
    return [seen[name] for name in (AS_NOW, *others)]


def _seeing(trial: Tried, predicted: Any, labels: Any) -> Tried:
    """Return a trial that has seen more samples."""
    import numpy as np

    return replace(trial, predicted=np.append(trial.predicted, predicted), labels=np.append(trial.labels, labels))


def _is_surely_worse(trial: Tried, others: Sequence[Tried]) -> bool:
    most = wilson_interval(trial.correct, trial.samples, SURE)[1]
    return any(other.surely_above(most) for other in others)


def other_ways(stored: Any, now: Preprocess) -> dict[str, Preprocess]:
    """Return what is usual for numbers in the range of `stored` (n, …), and none at all, without the current one."""
    import numpy as np

    ways = _usual(stored)
    if Preprocess() not in ways.values():
        ways = {AS_STORED: Preprocess(), **ways}
    first = stored[:2]
    return {
        name: way
        for name, way in ways.items()
        if (way == Preprocess() and now != way) or not np.allclose(way(first), now(first), rtol=1e-3, atol=1e-3)
    }


def _usual(stored: Any) -> dict[str, Preprocess]:
    """Return the usual preprocessing of a grid by the range that it gives, if its numbers lie in a usual one."""
    low, high = float(stored.min()), float(stored.max())
    held = next((ends for ends in RANGES.values() if ends[0] <= low and high <= ends[1]), None)
    if held is None or stored.ndim < GRID:
        return {}
    ways = {name: _between(held, ends) for name, ends in RANGES.items()}
    if held == RANGES["0…255"] and stored.ndim == 4 and stored.shape[-1] == COLORS:
        ways |= {"mode caffe": Preprocess(mode="caffe"), "mode torch": Preprocess(mode="torch")}
    return ways


def words_for(tried: Tried) -> str:
    """Return how to name it after a share: `at 0…1`, `as stored`."""
    return tried.name if tried.name in (AS_NOW, AS_STORED) else f"at {tried.name}"


def _between(held: tuple[float, float], wanted: tuple[float, float]) -> Preprocess:
    if held == wanted:
        return Preprocess()
    if (held, wanted) == (RANGES["0…255"], RANGES["-1…1"]):
        return Preprocess(mode="tf")
    scale = (wanted[1] - wanted[0]) / (held[1] - held[0])
    return Preprocess(scale=scale, offset=wanted[0] - scale * held[0])


def setting_of(way: Preprocess) -> str:
    """Return the recipe's line: `preprocess: {mode: tf}`."""
    settings = way.model_dump(mode="json", exclude_defaults=True)
    return f"preprocess: {{{', '.join(f'{key}: {value}' for key, value in settings.items())}}}"
