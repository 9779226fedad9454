"""Look at a model's data for a first recipe: does it fit, and with which preprocessing is the source right?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.contracts.events import ActionEvents
from pipeline.store.file_digests import FileDigests
from stages.commands.starting.first_changes import Kept, changes_kept
from stages.commands.starting.first_data import DataGuess, checked, look_into, opened
from stages.commands.starting.first_guess import ModelGuess, Preprocessing
from stages.commands.starting.first_preprocessing import SourceReport, preprocessing_by, report_on
from stages.commands.starting.first_source import Setting
from stages.keras.types import KerasModel
from stages.samples.source_accuracy import measure, why_unmeasured


@dataclass(frozen=True, slots=True)
class Found:
    """Hold what a first recipe is written from: what the model tells, what its data is, how accurate the source is.

    `kept` are the changes of images that the source does not mind, if any.
    """

    guess: ModelGuess
    data: DataGuess | None = None
    source: SourceReport | None = None
    kept: Kept | None = None


def look_at_data(
    model: KerasModel, guess: ModelGuess, path: Path, folder: Path, events: ActionEvents, *, changes: bool
) -> Found:
    """Return what the data at `path` is, and the preprocessing with which `model` is right on it.

    With `changes`, changes of images are measured as well. The recipe will be in `folder`. DataError if
    the data can't be read, or does not fit the model.
    """
    digests, suited = FileDigests(), guess.unsuited is None
    held = look_into(path, folder, guess.sized_inputs, guess.outputs, digests, labels=suited)
    if held.prepared and not guess.preprocessing.certain:
        none = Preprocessing(reason=f"the file's samples go {held.prepared}", certain=False)
        guess = guess.model_copy(update={"preprocessing": none})
    labels = suited and held.labelled
    splits = checked(opened(held, folder, guess.preprocessing.way, digests, labels=labels), model, labels=labels)
    held = held.model_copy(update={"counts": {name: len(split) for name, split in splits.items()}})
    # Validation data of its own says more than samples that the source may have been trained on.
    split = splits["train" if held.validation is None else "validation"]
    reason = guess.unsuited or why_unmeasured(model, split)
    if reason is not None:
        return Found(guess, held, SourceReport(unmeasured=reason))

    def progress(done: int, total: int) -> None:
        events.advanced(done, total, "measuring the source", f"{done}/{total} samples")

    measured = measure(model, split, progress)
    if measured.order is not None and isinstance(split.classes, tuple):
        number = dict(zip(split.classes, measured.order, strict=True))
        classes = tuple(sorted(split.classes, key=number.__getitem__))
        doubt = f"in this order the source is right; sorted by name, on {measured.chosen.accuracy:.1%}"
        held = held.saying(Setting(key="classes", value=classes, doubt=doubt))
        # The order decides which samples are drawn, and which preprocessing is best.
        split = opened(held, folder, guess.preprocessing.way, digests, labels=labels).split(split.name)
        measured = measure(model, split, progress)
    report = report_on(measured, "training" if held.validation is None else "validation")
    chosen = preprocessing_by(measured, guess.preprocessing, report)
    kept = None
    if changes and measured.proved:
        kept = changes_kept(model, replace(split, preprocess=chosen.way), measured.chosen.samples)
    return Found(guess.model_copy(update={"preprocessing": chosen}), held, report, kept)
