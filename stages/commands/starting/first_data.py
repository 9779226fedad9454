"""Look into a data file for a first recipe: its splits, and whether there are labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.data.npz import NpzFile
from pipeline.data.samples import Task
from pipeline.data.splits import Inputs
from pipeline.data.targets import task_and_targets
from pipeline.errors import DataError, RecipeError, SecateurError
from pipeline.records.values import Value
from pipeline.store.file_digests import FileDigests

ZIP = b"PK\x03\x04"
DATA_FILE = "data.npz"
LOOKED_AT = 256  # samples
LARGEST_PREPARED = 16.0  # standardized values reach a few units, pixels far more


class DataGuess(Value):
    """Describe a data file; `path` is from the recipe's folder; `tested` means a separate, equally labelled test split.

    `prepared` describes the values of the first samples if they can't be pixels from 0 to 255; else None. `samples`
    holds the shapes of the training samples, `tasks` what the labels of each output are ("" if labels have no names):
    None where they could mean two things.
    """

    path: str
    splits: tuple[str, ...]
    labelled: bool
    tested: bool
    prepared: str | None = None
    samples: tuple[dict[str, tuple[int, ...]], ...] = ()
    tasks: dict[str, Task | None] = Field(default_factory=dict)


def look_into(file: Path, folder: Path) -> DataGuess:
    """Inspect an npz for a recipe in `folder`; RecipeError if it is not one, DataError without a train split."""
    try:
        with file.open("rb") as opened:
            begin = opened.read(len(ZIP))
    except OSError as error:
        what = f"the data can't be read: {(error.strerror or str(error)).lower()}"
        raise RecipeError(what, where=str(file), hint="--data names an npz file") from error
    if begin != ZIP:
        hint = "leave --data out, and write `data:` for an image folder, a csv, TFRecords or a function into the recipe"
        raise RecipeError("the data is not an npz file", where=str(file), hint=hint)
    reader = NpzFile(file, FileDigests())
    splits = reader.splits()
    labelled = splits["train"]
    train = reader.read("train")
    path = Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    tested = splits.get("test") is labelled
    return DataGuess(
        path=path,
        splits=tuple(splits),
        labelled=labelled,
        tested=tested,
        prepared=_prepared(train.inputs),
        samples=tuple(shapes for shapes in (reader.shapes("train"),) if shapes),
        tasks=_tasks(train.targets),
    )


def beside(folder: Path) -> Path | None:
    """Return the default data file of a recipe in `folder`, if it exists and is usable."""
    file = folder / DATA_FILE
    if not file.is_file():
        return None
    try:
        look_into(file, folder)
    except SecateurError:
        return None
    return file


def _tasks(targets: Any) -> dict[str, Task | None]:
    """Return what labels are, as a run will take them; the run reports what is wrong with them."""
    by_output = targets if isinstance(targets, Mapping) else {} if targets is None else {"": targets}
    tasks: dict[str, Task | None] = {}
    for name, values in by_output.items():
        try:
            tasks[name] = task_and_targets(values, None, name)[0]
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
