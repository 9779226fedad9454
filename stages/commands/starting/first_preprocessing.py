"""Choose the preprocessing of a first recipe by measurement on labelled samples: the guess is one of several tried."""

from __future__ import annotations

from pathlib import Path

from pipeline.data import DataSource, Split
from pipeline.data.samples import Preprocess
from pipeline.data.spec import DataSpec
from pipeline.errors import DataError
from stages.commands.starting.first_guess import Preprocessing
from stages.keras.normal_form import keras_facts
from stages.keras.types import KerasModel
from stages.samples.checks import require_fit
from stages.samples.preprocess_trial import AS_NOW, Tried, can_be_tried, try_preprocessing, words_for
from stages.verify.chance import LEAST_SAMPLES, chance_of, is_at_chance

SEED = 7  # the recipe's, which draws the training split


def measured(model: KerasModel, guessed: Preprocessing, file: Path) -> Preprocessing:
    """Return what makes `model` most accurate on some training samples; the guess if that is inconclusive."""
    split = _train(file, guessed.way)
    if split is None or not can_be_tried(model, split):
        return guessed
    try:
        require_fit(split, keras_facts(model))
    except DataError:  # the run reports what does not fit
        return guessed
    tried = try_preprocessing(model, split)
    best = max(tried, key=lambda trial: trial.correct)  # prefer the guess among equals
    chance = chance_of(split.y, int(model.outputs[0].shape[-1]))
    if is_at_chance(best.accuracy, best.samples, chance) or best.samples < LEAST_SAMPLES:
        doubt = f"{guessed.reason}; no usual one is better than chance on {best.samples} samples: {_words(tried)}"
        return guessed.model_copy(update={"reason": doubt, "certain": False})
    reason = f"right on {best.accuracy:.1%} of {best.samples} training samples"
    others = [trial for trial in tried if trial is not best]
    reason += f"; {_words(others)}" if others else ""
    way = best.preprocess
    scaled = way != Preprocess() and way.mode is None
    return Preprocessing(
        mode=way.mode,
        scale=way.scale if scaled else None,
        offset=way.offset if scaled else 0.0,
        reason=reason,
        certain=True,
    )


def _train(file: Path, way: Preprocess) -> Split | None:
    spec = DataSpec(source="npz", path=file, preprocess=way)
    try:
        return DataSource(spec, file, SEED).split("train")
    except DataError:  # the run reports what is wrong with it
        return None


def _words(tried: list[Tried]) -> str:
    return ", ".join(
        f"{trial.accuracy:.1%} {'as guessed' if trial.name == AS_NOW else words_for(trial)}" for trial in tried
    )
