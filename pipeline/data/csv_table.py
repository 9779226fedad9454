"""Read csv files with a header: numeric columns or a column of image paths; rows are read directly from the file.

The splits are files (`train.csv`, `test.csv` in a folder), or the values of a column (`split`), or all rows are `train`
and the other splits are drawn. Only the offset of each row and its label stay in memory.
"""

from __future__ import annotations

import csv
import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from pipeline.data.declaration import Opening, Source
from pipeline.data.image_folder import VerifiedFiles
from pipeline.data.images import ImageForm, ImageSamples, ImageSettings, rows_at
from pipeline.data.splits import Samples
from pipeline.data.table import Shapes, Table, train_first
from pipeline.errors import DataError, listed
from pipeline.recipe.errors import nearest
from pipeline.records.keys import digest_of, digest_of_file
from pipeline.store.file_digests import State, state_of

Label = str | tuple[str, ...] | dict[str, str | tuple[str, ...]]


class CsvSettings(ImageSettings):
    """Set which columns of a table are what."""

    places: ClassVar[frozenset[str]] = frozenset({"path", "split"})
    classes: tuple[str, ...] | None = Field(None, description="names in the model's order; else sorted")
    image: str | None = Field(None, description="csv: the column with paths of images, from the csv's folder")
    inputs: tuple[str, ...] | dict[str, tuple[str, ...]] | None = Field(
        None, description="csv: columns, all others if left out; by input name for several inputs"
    )
    label: Label | None = Field(None, description="csv: a column or several; by output name for several outputs")
    split: str | None = Field(None, description="csv: the column that names each row's split")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.size is None and self.image is not None:
            raise ValueError("images need size: [height, width]")
        if self.image is not None and self.inputs is not None:
            raise ValueError("give either image or inputs")
        if isinstance(self.label, dict) and self.classes is not None:
            raise ValueError("classes are of one label; of several outputs words are sorted")
        return self


class CsvTable:
    """Read one csv file, or a folder with one for each split."""

    def __init__(self, opening: Opening[CsvSettings]) -> None:
        self._path, self._settings, self._unlabelled = opening.path, opening.settings, opening.unlabelled
        self._digests, self._threads = opening.digests, opening.threads
        self._images: dict[Path, dict[str, str]] = {}

    def content(self, stored: str, *, anew: bool = False) -> dict[str, Any]:
        path = self._file(stored)
        # Every plan asks for a digest: a header that can't be read right is refused there, before anything runs.
        _header_in(path, self._settings)
        look_up = self._digests.confirmed if anew else self._digests.remembered
        content: dict[str, Any] = {"table": look_up(path, "", partial(digest_of_file, path))}
        if self._settings.split is not None:
            content["split"] = self._settings.split
        if self._settings.image is not None:
            content["images"] = self._image_content(path, content["table"])
        return content

    def splits(self) -> dict[str, bool]:
        """Return which splits are stored, `train` first, with whether they have labels."""
        names = {"train"}
        if self._path.is_dir():
            names = {file.stem for file in self._path.glob("*.csv")}
        elif self._settings.split is not None:
            names = set(Rows(self._path, self._settings, None).texts(self._settings.split))
        return dict.fromkeys(train_first(names), self._settings.label is not None)

    def shapes(self, stored: str) -> Shapes:
        settings = self._settings
        if settings.image is not None:
            return {"": settings.image_shape}
        if settings.inputs is None:
            return {"": (len(self._other_columns(stored)),)}
        named = settings.inputs if isinstance(settings.inputs, dict) else {"": settings.inputs}
        return {name: (len(columns),) for name, columns in named.items()}

    def read(self, stored: str) -> Table:
        path = self._file(stored)
        rows = Rows(path, self._settings, stored if self._settings.split else None)
        targets, classes = self._targets(rows)
        if self._settings.image is not None:
            names = rows.texts(self._settings.image)
            reader = VerifiedFiles(path.parent, names, self._image_digests(path))
            form = ImageForm.of(self._settings)
            images = ImageSamples(len(names), reader.read, names.__getitem__, form, str(path), self._threads)
            return Table(images, targets, None, classes, images.undecodable, self._settings.max_undecodable)
        return Table(self._numbers(rows), targets, None, classes)

    def _file(self, stored: str) -> Path:
        if not self._path.is_dir():
            if stored != "train" and self._settings.split is None:
                hint = "name the column that tells splits apart (`split`), or draw one: `test: {fraction: 0.2}`"
                raise DataError(f"a csv file has no split {stored} of its own", where=str(self._path), hint=hint)
            return self._path
        path = self._path / f"{stored}.csv"
        if not path.is_file():
            known = sorted(file.stem for file in self._path.glob("*.csv"))
            hint = nearest(stored, known) if known else "the folder holds no csv file"
            raise DataError(f"there is no {stored}.csv", where=str(self._path), hint=hint)
        return path

    def _other_columns(self, stored: str) -> list[str]:
        """Return the columns of the header that are not labels, from the first line alone."""
        header = _header_in(self._file(stored), self._settings)
        return [name for name in header if name not in {*_columns(self._settings.label), self._settings.split}]

    def _numbers(self, rows: Rows) -> Samples | dict[str, Samples]:
        settings = self._settings
        if isinstance(settings.inputs, dict):
            return {name: NumberRows(rows, columns) for name, columns in settings.inputs.items()}
        if settings.inputs is not None:
            return NumberRows(rows, settings.inputs)
        apart = {*_columns(settings.label), settings.split}
        others = NumberRows(rows, tuple(name for name in rows.header if name not in apart))
        others[:1]  # nobody said that these are numbers: check here, before their count is compared with the model's
        return others

    def _targets(self, rows: Rows) -> tuple[Any, Any]:
        """Return targets and class names, both by output if labels are."""
        label = self._settings.label
        if label is None or self._unlabelled:
            return None, None
        if not isinstance(label, dict):
            return self._targets_of(rows, _columns(label))
        by_output = {output: self._targets_of(rows, _columns(columns)) for output, columns in label.items()}
        classes = {output: names for output, (_, names) in by_output.items() if names is not None}
        return {output: targets for output, (targets, _) in by_output.items()}, classes

    def _targets_of(self, rows: Rows, columns: tuple[str, ...]) -> tuple[Any, tuple[str, ...] | None]:
        """Return class numbers if the only label column holds words (or `classes` are named), else numbers.

        The whole table decides what a column holds, so that it is the same for every split.
        """
        import numpy as np

        if len(columns) == 1:
            words = rows.texts(columns[0])
            everywhere = Rows(rows.path, self._settings, None).texts(columns[0]) if self._settings.split else words
            if self._settings.classes is not None or not all(map(is_number, everywhere)):
                classes = self._settings.classes or self._class_names(everywhere)
                return _class_numbers(words, classes, rows, columns[0]), classes
            whole = all(word.lstrip("+-").isdigit() for word in everywhere)
            return np.array([int(word) if whole else float(word) for word in words]), None
        numbers = NumberRows(rows, columns)[:]
        whole = bool(((numbers == 0) | (numbers == 1)).all())
        return numbers.astype(np.int64) if whole else numbers, None

    def _class_names(self, words: list[str]) -> tuple[str, ...]:
        """Return the words in sorted order; DataError if another split's file could hold others."""
        names = tuple(sorted(set(words)))
        if self._path.is_dir():
            what = "each split has a file of its own, so the classes have to be named for all of them"
            hint = f"data.classes: [{', '.join(names[:20])}]"
            if isinstance(self._settings.label, dict):
                hint = "write class numbers, or one file with a column `split`"
            raise DataError(what, where=str(self._path), hint=hint)
        return names

    def _image_content(self, path: Path, table: str) -> str:
        """Digest the table and the content of its images, in the order in which it first names them."""
        digests = self._image_digests(path)
        content = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
        return digest_of("images", [table, content])

    def _image_digests(self, path: Path) -> dict[str, str]:
        if path not in self._images:
            states: dict[str, State] = {}
            for name in Rows(path, self._settings, None).texts(str(self._settings.image)):
                try:
                    states[name] = state_of(path.parent / name)
                except OSError as error:
                    raise DataError(f"the image {name} can't be read: {error}", where=str(path)) from error
            try:
                self._images[path] = self._digests.of_files(path.parent, path.name, states)
            except OSError as error:
                raise DataError(f"an image can't be read: {error}", where=str(path)) from error
        return self._images[path]


@dataclass(frozen=True, slots=True)
class Row:
    """Hold a row's cells and the line of the file on which it begins."""

    cells: list[str]
    line: int


class Rows:
    """Read rows of a csv file by offset, or those of one split if a column names splits."""

    def __init__(self, path: Path, settings: CsvSettings, stored: str | None) -> None:
        self.path = path
        self.header: list[str] = []
        self._offsets, self._lines = array("Q"), array("Q")
        self._state = state_of(path)
        self._settings = settings
        wanted = settings.split if stored is not None else None
        for offset, row in self._all():
            if wanted is None or row.cells[self.header.index(wanted)] == stored:
                self._offsets.append(offset)
                self._lines.append(row.line)
        if not self._offsets:
            raise self.error(f"there are no rows of split {stored}" if wanted else "there are no rows")

    def __len__(self) -> int:
        return len(self._offsets)

    def at(self, indices: Sequence[int]) -> Iterator[Row]:
        """Yield the rows with these numbers, in that order; DataError if the file has changed."""
        # Before and after: of a table that is rewritten in between, rows of both versions would be read.
        if state_of(self.path) != self._state:
            raise self._changed()
        with self.path.open("rb") as file:
            for index in indices:
                file.seek(self._offsets[index])
                # All lines from there on: a quoted cell may go on in the next.
                lines = (line.decode("utf-8-sig", "replace") for line in iter(file.readline, b""))
                row = Row(next(csv.reader(lines), []), self._lines[index])
                if len(row.cells) != len(self.header):
                    raise self._changed()
                yield row
        if state_of(self.path) != self._state:
            raise self._changed()

    def _changed(self) -> DataError:
        return self.error("the table changed during the run", "run again")

    def texts(self, column: str) -> list[str]:
        """Return one column of all rows."""
        position = self.place(column)
        return [row.cells[position].strip() for row in self.at(range(len(self)))]

    def place(self, column: str) -> int:
        """Return the number of a column; DataError if there is none of that name."""
        if column not in self.header:
            raise self.error(f"there is no column {column!r}", nearest(column, self.header))
        return self.header.index(column)

    def error(self, what: str, hint: str | None = None) -> DataError:
        return DataError(what, where=str(self.path), hint=hint)

    def _all(self) -> Iterator[tuple[int, Row]]:
        """Yield every row after the header with its offset; empty lines are skipped."""
        begun, line = 0, 1
        with self.path.open("rb") as file:
            # As bytes: of a text file Python refuses to tell the position while its lines are iterated.
            reader = csv.reader(data.decode("utf-8-sig", "replace") for data in iter(file.readline, b""))
            try:
                for cells in reader:
                    if cells and not self.header:
                        self._take_header(cells)
                    elif cells:
                        if len(cells) != len(self.header):
                            raise self.error(f"line {line} has {len(cells)} cells, the header {len(self.header)}")
                        yield begun, Row(cells, line)
                    begun, line = file.tell(), reader.line_num + 1
            except csv.Error as error:
                raise self.error(f"line {line} can't be read: {error}") from error
        if not self.header:
            raise self.error("the file is empty", "its first line names the columns")

    def _take_header(self, cells: list[str]) -> None:
        self.header = _header_of(cells)
        _require_single(self.header, self._settings, self.path)
        for column in sorted(_named(self._settings)):
            self.place(column)


def _header_of(cells: Sequence[str]) -> list[str]:
    """Return the names of columns: people write `a, b`."""
    return [cell.strip() for cell in cells]


def _header_in(path: Path, settings: CsvSettings) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            header = _header_of(next(filter(None, csv.reader(file)), []))
        except csv.Error as error:
            raise DataError(f"the header can't be read: {error}", where=str(path)) from error
    _require_single(header, settings, path)
    return header


def _require_single(header: Sequence[str], settings: CsvSettings, path: Path) -> None:
    """Raise DataError if a column that is read shares its name with another: which one was meant can't be known."""
    all_read = settings.image is None and settings.inputs is None  # all other columns are inputs
    read = set(header) if all_read else _named(settings)
    for name, times in Counter(header).items():
        if times > 1 and name in read:
            numbers = [str(number) for number, column in enumerate(header, 1) if column == name]
            columns = f"columns {listed(numbers, 'and')}"
            what = f"the header names {columns} {name!r}" if name else f"the header leaves {columns} without a name"
            hint = "give each column a name of its own in the first line"
            hint += ", or name the columns to read (`inputs: [a, b]`)" if name not in _named(settings) else ""
            raise DataError(what, where=str(path), hint=hint)


@dataclass(frozen=True, slots=True)
class NumberRows:
    """Read some columns as float32 (N, columns)."""

    finite: ClassVar[bool] = True  # values that are not finite are refused when they are read, with their line
    rows: Rows
    columns: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), len(self.columns))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        positions = [self.rows.place(column) for column in self.columns]
        values = [
            [self._number(row, position) for position in positions] for row in self.rows.at(rows_at(key, len(self)))
        ]
        return np.array(values, np.float32).reshape(-1, len(positions))

    def _number(self, row: Row, position: int) -> float:
        if not is_number(row.cells[position]):
            column, cell = self.rows.header[position], row.cells[position]
            what = f"line {row.line}, column {column!r}: {cell!r} is not a finite number"
            hint = "name the numeric columns (`inputs: [a, b]`), or the one with paths of images (`image: path`)"
            raise self.rows.error(what, hint)
        return float(row.cells[position])


def _class_numbers(words: list[str], classes: tuple[str, ...], rows: Rows, column: str) -> Any:
    import numpy as np

    number = {name: index for index, name in enumerate(classes)}
    unknown = sorted(set(words) - number.keys())
    if unknown:
        raise rows.error(f"column {column!r} holds {unknown[0]!r}, which data.classes does not name")
    return np.array([number[word] for word in words], np.int64)


def _columns(label: Label | None) -> tuple[str, ...]:
    if isinstance(label, dict):
        return tuple(column for names in label.values() for column in _columns(names))
    return () if label is None else (label,) if isinstance(label, str) else label


def _named(settings: CsvSettings) -> set[str]:
    """Return the columns that the settings name."""
    alone = {column for column in (settings.image, settings.split) if column}
    return alone.union(_columns(settings.label), _input_columns(settings))


def _input_columns(settings: CsvSettings) -> tuple[str, ...]:
    if isinstance(settings.inputs, dict):
        return tuple(column for columns in settings.inputs.values() for column in columns)
    return settings.inputs or ()


def is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _is_text(begin: bytes) -> bool:
    """Return whether this is text, which never contains NUL: the length at the start of a TFRecord always does."""
    return bool(begin) and 0 not in begin


SOURCE = Source(CsvSettings, CsvTable, recognises=_is_text)
