"""Choose the preprocessing of a first recipe by measurement on labelled samples: the guess is one of several tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pipeline.data.samples import Preprocess
from pipeline.records.values import Value
from stages.commands.starting.first_guess import Preprocessing
from stages.samples.preprocess_trial import AS_NOW, Tried, setting_of
from stages.samples.source_accuracy import LEAST_SAMPLES, Measured, is_at_chance

SHOWN = 12  # classes


class Trial(Value):
    """Report the accuracy with one preprocessing, on the first `samples` samples; `name` is the range that it gives."""

    name: str
    preprocess: Preprocess
    accuracy: float
    samples: int
    chosen: bool


class SourceReport(Value):
    """Report the accuracy of a source on training samples: with the preprocessing that was guessed, then with others.

    `chance` is that of guessing, `split` what the samples are of: training data, or stored validation data. `order` is
    the number by which the model knows each class of the data, if it is far better with that. `unmeasured` says why
    nothing was measured, if so.
    """

    unmeasured: str | None = None
    split: Literal["training", "validation"] = "training"
    classes: int = 0
    order: tuple[int, ...] | None = None
    chance: float = 0.0
    tried: tuple[Trial, ...] = ()


def report_on(measured: Measured, split: Literal["training", "validation"]) -> SourceReport:
    """Return a measurement on samples of `split` as plain data."""
    tried = tuple(_trial(trial, chosen=trial is measured.chosen) for trial in measured.tried)
    return SourceReport(
        split=split, order=measured.order, classes=measured.classes, chance=measured.chance, tried=tried
    )


def _trial(trial: Tried, *, chosen: bool) -> Trial:
    name = "as guessed" if trial.name == AS_NOW else trial.name
    accuracy, samples = trial.accuracy, trial.samples
    return Trial(name=name, preprocess=trial.preprocess, accuracy=accuracy, samples=samples, chosen=chosen)


def preprocessing_by(measured: Measured, guessed: Preprocessing, report: SourceReport) -> Preprocessing:
    """Return the preprocessing that makes the source most accurate: certain if that is far from chance."""
    best = measured.chosen
    reason = (
        f"right on {best.accuracy:.1%} of {best.samples:,} {report.split} samples"
        f" ({measured.classes} classes, chance {measured.chance:.1%})"
    )
    if best.samples < LEAST_SAMPLES:
        reason += ", too few to tell"
    elif measured.ordered is not None and measured.order is not None:
        reason += f"; on {measured.ordered.accuracy:.1%} at {setting_of(measured.ordered.preprocess)} if labels "
        reason += f"{_numbers(range(measured.classes))} were {_numbers(measured.order)}"
    elif is_at_chance(best.accuracy, best.samples, measured.chance):
        reason = f"no better than chance: {reason}; is it untrained, or is this not what it was trained for?"
    elif not measured.proved:
        reason += ", which proves little"
    if best is measured.as_given:
        return guessed.model_copy(update={"reason": reason, "certain": measured.proved})
    return Preprocessing.of(best.preprocess, reason, certain=measured.proved)


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:SHOWN])) + (", …" if len(numbers) > SHOWN else "")


def table_of(report: SourceReport) -> Iterator[str]:
    """Yield a line for each preprocessing that was tried, the best first; nothing if there was only one."""
    tried = sorted(report.tried, key=lambda trial: (not trial.chosen, -trial.accuracy))
    if len(tried) < 2:
        return
    most = max(trial.samples for trial in tried)
    settings = {trial.name: _setting(trial.preprocess) for trial in tried}
    width = max(map(len, settings.values()))
    for trial in tried:
        few = f", of the first {trial.samples}" if trial.samples < most else ""
        chosen = "   ← taken" if trial.chosen else ""
        yield f"{trial.accuracy:6.1%}  {settings[trial.name].ljust(width)}  {trial.name}{few}{chosen}"


def _setting(way: Preprocess) -> str:
    if way == Preprocess():
        return "none"
    if way.mode is not None:
        return f"mode: {way.mode}"
    offset = f", offset: {way.offset:.6g}" if way.offset else ""
    return f"scale: {way.scale:.6g}{offset}"
