"""Detect a source that is no better than chance: nearly always its inputs differ from those it was trained on.

The run stops if another preprocessing proves it. If none does, the model may be untrained on purpose, and there is only
a warning: hours of pruning and fine-tuning need a source that works, tests and benchmarks do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.contracts.stage import StageContext
from pipeline.data import Split
from pipeline.errors import SourceError
from stages.formats.format import Arrays
from stages.samples.preprocess_trial import AS_NOW, Tried, setting_of, words_for
from stages.verify.metrics import evaluate, wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_SAMPLES = 50  # fewer can't distinguish a classifier from guessing
SURE = 3.0  # standard deviations, since several are tried
BETTER = 0.25  # of the way from chance to no error, which an untrained network does not reach by luck


def chance_of(labels: NDArray[Any], classes: int) -> float:
    """Return the accuracy of always predicting the most frequent class, or a random one, whichever is larger."""
    import numpy as np

    counts = np.unique(np.asarray(labels).reshape(-1), return_counts=True)[1]
    return max(1 / max(classes, 2), float(counts.max() / counts.sum()))


def is_at_chance(accuracy: float, samples: int, chance: float) -> bool:
    """Return whether the 95 % interval of an accuracy contains `chance`, or is below it; False with too few samples."""
    return samples >= LEAST_SAMPLES and wilson_interval(accuracy * samples, samples)[0] <= chance


def proved(tried: Sequence[Tried], chance: float) -> Tried | None:
    """Return the best of the others, if it is surely better than the current one and far from chance; else None."""
    if len(tried) < 2:
        return None
    now, best = tried[0], max(tried[1:], key=lambda trial: trial.correct)
    least = wilson_interval(best.correct, best.samples, SURE)[0]
    most = wilson_interval(now.correct, now.samples, SURE)[1]
    return best if least > max(most, chance + BETTER * (1 - chance)) else None


def words_on(tried: Sequence[Tried]) -> str:
    """Format `71.8 % at 0…255 (preprocess: {}), 10.3 % as now`, the best first."""
    ordered = sorted(tried, key=lambda trial: -trial.correct)
    named = (
        words_for(trial) + ("" if trial.name == AS_NOW else f" ({setting_of(trial.preprocess)})") for trial in ordered
    )
    return ", ".join(f"{trial.accuracy:.1%} {name}" for trial, name in zip(ordered, named, strict=True))


def check_source(context: StageContext[Any], split: Split, outputs: Arrays, targets: Mapping[str, Split]) -> None:
    """Compare each classifying output (N, classes) of the source, by name, with chance: a warning, or SourceError."""
    for name, seen in targets.items():
        if seen.kind != "classes":
            continue
        accuracy = evaluate(outputs[name], seen.y, "classes", ("accuracy",)).metrics["accuracy"]
        chance = chance_of(seen.y, outputs[name].shape[1])
        if is_at_chance(accuracy, len(seen), chance):
            of = f"output {name} of the source" if len(outputs) > 1 else "the source"
            what = (
                f"{of} is no better than chance: {accuracy:.1%} of {len(seen)} test samples, and chance is {chance:.1%}"
            )
            context.events.warned(told_or_stopped(what, chance, _tried(context, split)))


def _tried(context: StageContext[Any], split: Split) -> Sequence[Tried]:
    from stages.keras.precision import untouched_in_float32
    from stages.keras.tensorflow import tensorflow_action
    from stages.samples.preprocess_trial import can_be_tried, try_preprocessing

    with tensorflow_action(context.seed, context.threads):
        model = untouched_in_float32(context, "model")
        return try_preprocessing(model, split) if can_be_tried(model, split) else ()


def told_or_stopped(what: str, chance: float, tried: Sequence[Tried]) -> str:
    """Raise SourceError if another preprocessing is proved to be the right one; else return the warning."""
    best = proved(tried, chance)
    trials = f"of {tried[0].samples} samples right: {words_on(tried)}" if len(tried) > 1 else ""
    if best is None:
        advice = "check data.preprocess and the labels, unless it is untrained on purpose"
        return f"{what}; {advice}{f' ({trials})' if trials else ''}"
    raise SourceError(
        f"{what}; with {setting_of(best.preprocess)} it is right on {best.accuracy:.1%}",
        where="data.preprocess",
        hint=f"{trials}; check_preprocess: false under data goes on all the same",
    )
