"""Look into data for a first recipe: what it is, its splits, what its labels are, and whether it fits the model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.data import DataSource, Split
from pipeline.data.declaration import Opening, source_named
from pipeline.data.samples import Preprocess, Task
from pipeline.data.spec import DataSpec, HeldOutPart
from pipeline.data.splits import Inputs
from pipeline.data.table import Shapes, Table
from pipeline.data.targets import is_one_hot, task_and_targets
from pipeline.errors import DataError, SecateurError
from pipeline.records.artifacts import TensorSpec
from pipeline.records.values import Value
from pipeline.store.file_digests import FileDigests
from stages.commands.starting.first_guess import OutputGuess
from stages.commands.starting.first_source import Kind, Setting, of_images, of_table, source_at
from stages.keras.normal_form import keras_facts
from stages.keras.types import KerasModel
from stages.samples.checks import require_finite_inputs, require_fit

DATA_FILE = "data.npz"
LOOKED_AT = 256  # samples
LARGEST_PREPARED = 16.0  # standardized values reach a few units, pixels far more
VALIDATIONS = ("val", "validation", "valid", "dev")  # what a stored one is called
DRAWN_TEST = 0.2  # of train, if no test split is stored
FEW_SAMPLES, HELD_OUT_OF_FEW = 10_000, 0.2  # 400 samples tell accuracies apart by two points, 800 by one and a half
CHOOSING_SHARE, FEWEST_CHOOSING = 0.5, 400  # of test data, to choose by
SEED = 7  # the recipe's, which draws splits
THREADS = 2  # of TensorFlow, also where it decodes


class DataGuess(Value):
    """Describe data; `path` is from the recipe's folder, and `settings` are what its source needs besides.

    `tested` means a separate, equally labelled test split, `validation` names a stored one for validation. `prepared`
    describes the values of the first samples if they can't be pixels from 0 to 255; else None. `tasks` is what the
    labels of each output are ("" if labels have no names): None where they could mean two things. `counts` are the
    samples of each split of the recipe; `held_out` is the part that is drawn for validation where none is stored.
    """

    source: Kind
    path: str
    settings: tuple[Setting, ...]
    splits: tuple[str, ...]
    labelled: bool
    tested: bool
    validation: str | None = None
    prepared: str | None = None
    tasks: dict[str, Task | None] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    held_out: HeldOutPart = HeldOutPart()

    def for_a_search(self) -> DataGuess:
        """Return the same with validation data to choose by: of test data if there is enough, else more of train.

        The source has learned train, so that a candidate seems to lose more on a part of it than it does.
        """
        if self.validation is not None or not self.counts:
            return self
        train, tested = self.counts["train"] + self.counts["validation"], self.counts["test"]
        if self.tested and CHOOSING_SHARE * tested >= FEWEST_CHOOSING:
            return self._held_out("test", CHOOSING_SHARE, {"train": train, "test": tested})
        if train < FEW_SAMPLES:
            return self._held_out("train", HELD_OUT_OF_FEW, {"train": train, "test": tested})
        return self

    def _held_out(self, split: str, share: float, stored: dict[str, int]) -> DataGuess:
        taken = round(share * stored[split])
        counts = {"train": stored["train"], "validation": taken, "test": stored["test"]}
        counts[split] -= taken
        part = HeldOutPart.model_validate({"from": split, "fraction": share})
        return self.model_copy(update={"counts": counts, "held_out": part})

    @property
    def doubts(self) -> tuple[str, ...]:
        """Return the settings to check, with what was guessed."""
        return tuple(f"{own.key} (check it): {own.doubt}" for own in self.settings if own.doubt)

    def saying(self, setting: Setting) -> DataGuess:
        """Return the same with one more setting, in place of one of its name if there is one."""
        others = tuple(own for own in self.settings if own.key != setting.key)
        return self.model_copy(update={"settings": (*others, setting)})

    @property
    def words(self) -> str:
        """Return `train 54,000 · validation 6,000 (drawn from train) · test 10,000`."""
        drawn = {} if self.validation else {"validation": f" (drawn from {self.held_out.from_})"}
        if not self.tested:
            drawn["test"] = " (drawn from train)"
        return " · ".join(f"{name} {count:,}{drawn.get(name, '')}" for name, count in self.counts.items())


def known_shapes(path: Path) -> tuple[Shapes, ...]:
    """Return the shapes of training samples by input name, if the file holds them; before a model is loaded.

    RecipeError if no source reads `path`, DataError without a train split.
    """
    kind, file = source_at(path)
    if kind != "npz":
        return ()
    reader = _reader(kind, file, (), FileDigests())
    reader.splits()
    shapes = reader.shapes("train")
    return (shapes,) if shapes else ()


def look_into(
    path: Path,
    folder: Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[OutputGuess],
    digests: FileDigests,
    *,
    labels: bool,
) -> DataGuess:
    """Inspect data for the recipe, in `folder`, of a model with these inputs and outputs.

    Without `labels` those of the data, if any, are not to be looked at. Raises as `known_shapes` does, and DataError if
    it can't be told how to read the data for this model.
    """
    kind, path = source_at(path)
    settings = _settings_of(kind, path, inputs)
    reader = _reader(kind, path, settings, digests)
    splits = reader.splits()
    labelled = splits["train"]
    train = reader.read("train")
    said = _task_to_say(train, outputs[0]) if len(outputs) == 1 and labels else None
    return DataGuess(
        source=kind,
        path=Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix(),
        settings=settings if said is None else (*settings, said),
        splits=tuple(splits),
        labelled=labelled,
        tested=splits.get("test") is labelled,
        validation=next((name for name in VALIDATIONS if splits.get(name) is labelled), None),
        prepared=_prepared(train.inputs) if kind == "npz" else None,
        tasks=_tasks(train.targets, None if said is None else said.value),
    )


def opened(guess: DataGuess, folder: Path, preprocess: Preprocess, digests: FileDigests, *, labels: bool) -> DataSource:
    """Return the data as the recipe reads it; without `labels`, as if it had none."""
    settings = {setting.key: setting.value for setting in guess.settings}
    if not labels:
        settings["task"] = "unlabelled"
    if guess.validation is not None:
        settings["validation"] = guess.validation
    file = Path(os.path.normpath(folder.resolve() / guess.path))  # the folder need not be there yet
    test = "test" if guess.tested else {"fraction": DRAWN_TEST}
    spec = DataSpec.model_validate(
        {"source": guess.source, "path": file, "preprocess": preprocess, "test": test, **settings}
    )
    return DataSource(spec, file, SEED, digests, THREADS)


def checked(data: DataSource, model: KerasModel, *, labels: bool) -> dict[str, Split]:
    """Return the splits of a recipe by name; DataError if one does not fit the model, or its inputs are not finite."""
    splits, facts = {}, keras_facts(model)
    for name in ("train", "validation", "test"):
        try:
            splits[name] = data.split(name)
            require_fit(splits[name], facts, labels=labels)
            require_finite_inputs(splits[name])
        except DataError as error:
            where = f"{data.path}: {name}" if (error.where or "").startswith("data.") else error.where
            raise DataError(error.what, where=where, hint=error.hint) from error
    return splits


def beside(folder: Path) -> Path | None:
    """Return the default data file of a recipe in `folder`, if it exists and is usable."""
    file = folder / DATA_FILE
    if not file.is_file():
        return None
    try:
        known_shapes(file)
    except SecateurError:
        return None
    return file


def _settings_of(kind: Kind, path: Path, inputs: Sequence[TensorSpec]) -> tuple[Setting, ...]:
    if kind == "npz":
        return ()
    if len(inputs) > 1:
        what = f"{kind} data is for one input here, and the model takes {', '.join(spec.name for spec in inputs)}"
        hint = "leave --data out, and say in the recipe what each input reads (docs/guide/data-and-models.md)"
        raise DataError(what, where=str(path), hint=hint)
    if kind == "image_folder":
        return tuple(of_images(inputs[0]))
    if kind == "csv":
        return tuple(of_table(path, inputs[0]))
    from stages.commands.starting.first_records import of_records

    return tuple(of_records(path, inputs[0], THREADS))


def _reader(kind: Kind, path: Path, settings: Sequence[Setting], digests: FileDigests) -> Any:
    source = source_named(kind)
    own = source.settings.model_validate({"path": path, **{setting.key: setting.value for setting in settings}})
    return source.reader(Opening(path, own, unlabelled=False, digests=digests, threads=THREADS))


def _task_to_say(train: Table, output: OutputGuess) -> Setting | None:
    """Return the task that the recipe has to say, since labels alone mean something else or could mean two things."""
    import numpy as np

    if train.targets is None or isinstance(train.targets, Mapping):
        return None
    y = np.asarray(train.targets)
    if y.dtype.kind not in "biuf" or not y.size:
        return None
    told = _tasks(y, None)[""]
    if output.task in ("classes", "binary") and told != "classes":
        if is_one_hot(y):
            return Setting(key="task", value="classes", note="its labels are one-hot")
        if y.size == len(y) and (y == np.round(y)).all():
            return Setting(key="task", value="classes", note="its labels are class numbers, stored as floats")
    if output.task == "multilabel" and told is None:
        return Setting(key="task", value="multilabel", doubt="or classes, one-hot")
    if output.task == "regression" and told == "classes" and y.max() > 1:
        return Setting(key="task", value="regression", note="whole numbers, and one output without bounds")
    return None


def _tasks(targets: Any, said: Task | None) -> dict[str, Task | None]:
    """Return what labels are, as a run will take them; the run reports what is wrong with them."""
    by_output = targets if isinstance(targets, Mapping) else {} if targets is None else {"": targets}
    tasks: dict[str, Task | None] = {}
    for name, values in by_output.items():
        try:
            tasks[name] = task_and_targets(values, said, name)[0]
        except DataError:
            tasks[name] = None
    return tasks


def _prepared(inputs: Inputs) -> str | None:
    """Return `from -1 to 1`, for a single input whose samples are small real numbers."""
    import numpy as np

    if isinstance(inputs, Mapping):
        return None
    first = np.asarray(inputs[:LOOKED_AT])
    low, high = (float(first.min()), float(first.max())) if first.size else (0.0, 0.0)
    small = first.dtype.kind == "f" and max(abs(low), abs(high)) <= LARGEST_PREPARED
    return f"from {low:.3g} to {high:.3g}" if small else None
