"""Recognize what a data file or folder is, and guess the settings that a recipe needs to read it.

What a source does not tell, such as which column is the label, is guessed from names and from the model's input; the
recipe says so.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.data.csv_table import is_number
from pipeline.data.declaration import source_named
from pipeline.data.images import IMAGE_SUFFIXES
from pipeline.errors import DataError, RecipeError, first_few, listed, numbered
from pipeline.records.artifacts import TensorSpec
from pipeline.records.values import Value
from stages.samples.batches import shape_text

Kind = Literal["npz", "image_folder", "csv", "tfrecord"]
FILES: tuple[Kind, ...] = ("npz", "tfrecord", "csv")  # by their first bytes
LABELS = ("label", "labels", "class", "class_id", "target", "y", "category")
ROW_NUMBERS = ("", "id", "index", "unnamed: 0")  # the last two as pandas writes them
SPLITS = ("split", "subset", "set")
HEAD_BYTES = 512
LOOKED_AT = 200  # rows
COLORS = (1, 3, 4)


class Setting(Value):
    """Set one key under `data`, with what to say beside it: `note` what it is, `doubt` what was guessed."""

    key: str
    value: Any
    note: str = ""
    doubt: str = ""

    @property
    def comment(self) -> str:
        """Return the recipe's comment."""
        return f"CHECK: {self.doubt}" if self.doubt else self.note


def source_at(path: Path) -> tuple[Kind, Path]:
    """Return which source reads a file or folder, and its path: the only csv of a folder stands for it.

    RecipeError if there is nothing, or if no source reads it.
    """
    if path.is_dir():
        return _source_of_folder(path)
    begin = _begin(path)
    for kind in FILES:
        recognises = source_named(kind).recognises
        # Any text could be a csv: one that has no commas hardly is.
        if recognises is not None and recognises(begin) and (kind != "csv" or b"," in begin.partition(b"\n")[0]):
            return kind, path
    hint = (
        "--data names an npz, a csv with commas and a first line of names, TFRecords, or a folder of images; "
        "leave it out for all else, and write `data:` into the recipe"
    )
    raise RecipeError("the data is of no kind that is known here", where=str(path), hint=hint)


def label_among(names: Iterable[str]) -> str | None:
    """Return the name that is usual for labels, also at the end of a path (`image/class/label`)."""
    known = {name.rpartition("/")[2].casefold(): name for name in names}
    return next((known[label] for label in LABELS if label in known), None)


def _source_of_folder(path: Path) -> tuple[Kind, Path]:
    try:
        files = [entry for entry in sorted(path.iterdir()) if entry.is_file() and not entry.name.startswith(".")]
    except OSError as error:
        raise _unreadable(path, error) from error
    tables = [file for file in files if file.suffix.lower() == ".csv"]
    if tables:
        alone = len(tables) == 1 and tables[0].stem != "train"
        return "csv", tables[0] if alone else path
    if any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.rglob("*")):
        return "image_folder", path
    records = source_named("tfrecord").recognises
    if files and records is not None and records(_begin(files[0])):
        return "tfrecord", path
    archives = [file.name for file in files if file.suffix == ".npz"]
    hint = f"name the file: {listed(archives, 'or')}" if archives else None
    raise RecipeError("the folder holds no images, csv files or TFRecords", where=str(path), hint=hint)


def _begin(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> RecipeError:
    what = f"the data can't be read: {(error.strerror or str(error)).lower()}"
    return RecipeError(what, where=str(path), hint="--data names a file or a folder")


def of_images(entry: TensorSpec) -> Iterator[Setting]:
    """Yield height, width and colors: those of the model's input (batch, height, width, colors)."""
    *_, height, width, colors = (1, *entry.shape)
    if len(entry.shape) != 4 or colors not in COLORS:
        what = f"the data is images, and the model's input {entry.name!r} has shape {tuple(entry.shape)}"
        raise DataError(what, where="--data", hint="images are for inputs (batch, height, width, 1, 3 or 4 colors)")
    yield Setting(key="size", value=(height, width), note="the model's; `resize: crop` keeps proportions")
    if colors != 3:
        yield Setting(key="channels", value=colors, note="the model's")


def of_table(path: Path, entry: TensorSpec) -> Iterator[Setting]:
    header, rows = _head_of(path / "train.csv" if path.is_dir() else path)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    split = next((name for name in header if name.casefold() in SPLITS and "train" in columns[name]), None)
    if split is not None:
        yield Setting(key="split", value=split)
        del columns[split]
    image = next((name for name, cells in columns.items() if _are_images(cells)), None)
    label = label_among(columns)
    if image is not None:
        del columns[image]
        yield Setting(key="image", value=image)
        yield from of_images(entry)
        label = label or (next(iter(columns)) if len(columns) == 1 else None)
    else:
        width = entry.shape[-1] or 0
        label = label or _last_of(columns, width)
        yield from _of_inputs({name: cells for name, cells in columns.items() if name != label}, entry, path)
    if label is None:
        return
    usual = label_among([label]) is not None
    yield Setting(key="label", value=label, doubt="" if usual else "guessed, no column is called label")
    if path.is_dir() and not all(map(is_number, columns[label])):
        # Every split has a file of its own, so that none of them knows all classes.
        classes = tuple(sorted({row[header.index(label)] for row in _head_of(path / "train.csv", None)[1]}))
        yield Setting(key="classes", value=classes, doubt="in the model's order")


def _last_of(columns: dict[str, list[str]], width: int) -> str | None:
    """Return the column that remains if the model takes the others: the only one of words, or the last."""
    words = [name for name, cells in columns.items() if not all(map(is_number, cells))]
    if len(columns) != width + 1 or len(words) > 1:
        return None
    return words[0] if words else list(columns)[-1]


def _of_inputs(columns: dict[str, list[str]], entry: TensorSpec, path: Path) -> Iterator[Setting]:
    """Yield the columns of numbers if there are others; DataError if they are not as many as the model takes."""
    numbers = [name for name, cells in columns.items() if all(map(is_number, cells))]
    features = [name for name in numbers if name.casefold() not in ROW_NUMBERS]
    inputs = next((found for found in (numbers, features) if tuple(entry.shape[1:]) in ((len(found),), (None,))), None)
    if inputs is None:
        what = f"the model's input {entry.name!r} takes {shape_text(entry.shape[1:])}, and the table has "
        what += f"{numbered(len(numbers), 'column')} of numbers besides the label: {first_few(numbers)}"
        hint = "leave --data out, and name the columns in the recipe: `inputs: [a, b]`, `label: c`"
        raise DataError(what, where=str(path), hint=hint)
    if len(inputs) < len(columns):
        yield Setting(key="inputs", value=tuple(inputs), doubt="the columns of numbers")


def _head_of(file: Path, rows: int | None = LOOKED_AT) -> tuple[list[str], list[list[str]]]:
    """Return the header and the first whole rows, or all; reading the data reports what is wrong with others."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as opened:
            lines = (list(map(str.strip, row)) for row in csv.reader(opened) if row)
            header = next(lines, [])
            held = [row for row, _ in zip(lines, range(rows) if rows else iter(int, 1), strict=False)]
    except OSError as error:
        raise _unreadable(file, error) from error
    except csv.Error as error:
        raise DataError(f"the table can't be read: {error}", where=str(file)) from error
    whole = [row for row in held if len(row) == len(header)]
    if not whole:
        hint = "its first line names the columns, and each line after it is a sample"
        raise DataError("the csv holds no rows", where=str(file), hint=hint)
    return header, whole


def _are_images(cells: Sequence[str]) -> bool:
    return all(cell.lower().endswith(IMAGE_SUFFIXES) for cell in cells)
