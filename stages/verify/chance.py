"""Detect a source that is no better than chance: nearly always its inputs differ from those it was trained on.

The run stops if another preprocessing proves it. If none does, the model may be untrained on purpose, and there is only
a warning: hours of pruning and fine-tuning need a source that works, tests and benchmarks do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.contracts.stage import StageContext
from pipeline.data import Split
from pipeline.errors import SourceError
from stages.formats.format import Arrays
from stages.samples.preprocess_trial import AS_NOW, Tried, setting_of, words_for
from stages.samples.source_accuracy import better, chance_of, is_at_chance, is_far_above
from stages.verify.metrics import evaluate


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
    best = better(tried)
    trials = f"of {tried[0].samples} samples right: {words_on(tried)}" if len(tried) > 1 else ""
    if best is None or not is_far_above(best, chance):
        advice = "check data.preprocess and the labels, unless it is untrained on purpose"
        return f"{what}; {advice}{f' ({trials})' if trials else ''}"
    raise SourceError(
        f"{what}; with {setting_of(best.preprocess)} it is right on {best.accuracy:.1%}",
        where="data.preprocess",
        hint=f"{trials}; check_preprocess: false under data goes on all the same",
    )
