"""Read TFRecord files of `tf.train.Example`s by a schema in the recipe, directly from the file.

Each file's name up to its first `-` or `.` is its split: `train-00000-of-00010`, `test.tfrecord`; a single file is
`train`. Only the offset of each record and its label stay in memory.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.data.declaration import Opening, Source
from pipeline.data.decoders import decoder
from pipeline.data.images import ImageForm, ImageSamples, ImageSettings, rows_at
from pipeline.data.splits import Samples
from pipeline.data.table import Failures, Shapes, Table, train_first
from pipeline.errors import DataError, RecipeError
from pipeline.recipe.errors import nearest
from pipeline.records.keys import digest_of_file
from pipeline.records.values import Value
from pipeline.store.file_digests import state_of

HEADER_BYTES, FOOTER_BYTES = 12, 4  # length and its checksum; checksum of the record
PARSED_AT_A_TIME = 256


class Feature(Value):
    """Describe one feature of a TFRecord's examples: an encoded image, numbers, or the bytes of a `dtype` array."""

    type: Literal["image", "float32", "int64", "raw"]
    shape: tuple[int, ...] = ()
    dtype: Literal["uint8", "int8", "int16", "int32", "float16", "float32"] = "uint8"


class RecordSettings(ImageSettings):
    """Set which features of a TFRecord's examples are what."""

    features: dict[str, Feature] = Field(description="tfrecord: the schema")
    inputs: tuple[str, ...] | None = Field(None, description="tfrecord: features, all but the labels if left out")
    label: str | dict[str, str] | None = Field(
        None, description="tfrecord: a feature; by output name for several outputs"
    )

    @model_validator(mode="after")
    def _images_have_a_size(self) -> Self:
        if self.size is None and any(feature.type == "image" for feature in self.features.values()):
            raise ValueError("images need size: [height, width]")
        return self


class TFRecords:
    """Read the records of one file, or of a folder's files."""

    def __init__(self, opening: Opening[RecordSettings]) -> None:
        self._path, self._settings, self._unlabelled = opening.path, opening.settings, opening.unlabelled
        self._digests, self._threads = opening.digests, opening.threads
        known = self._settings.features
        for name in (*self._inputs(), *self._labels().values()):
            if name not in known:
                raise RecipeError(f"{name!r} is not a feature", where="data.features", hint=nearest(name, list(known)))

    def content(self, stored: str, *, anew: bool = False) -> dict[str, Any]:
        look_up = self._digests.confirmed if anew else self._digests.remembered
        return {"records": [look_up(path, "", partial(digest_of_file, path)) for path in self._files(stored)]}

    def splits(self) -> dict[str, bool]:
        """Return which splits are stored, `train` first, with whether they have labels."""
        return dict.fromkeys(train_first(stored_files(self._path)), bool(self._labels()))

    def shapes(self, stored: str) -> Shapes:
        features, names = self._settings.features, self._inputs()
        known = {name: features[name] for name in names if name in features}
        image_shape = self._settings.image_shape
        shapes = {name: image_shape if feature.type == "image" else feature.shape for name, feature in known.items()}
        return shapes if len(names) > 1 else dict(zip(("",), shapes.values(), strict=False))

    def read(self, stored: str) -> Table:
        records = Records(self._files(stored), self._settings.features, self._threads)
        targets: Any = None
        if self._labels() and not self._unlabelled:
            by_output = {output: records.column(feature) for output, feature in self._labels().items()}
            targets = by_output if isinstance(self._settings.label, dict) else by_output[""]
        else:
            records.verify()
        samples = {name: self._samples(records, name) for name in self._inputs()}
        images = [lazy for lazy in samples.values() if isinstance(lazy, ImageSamples)]

        def undecodable(indices: Any) -> Failures:
            return {index: why for lazy in images for index, why in lazy.undecodable(indices).items()}

        inputs = samples if len(samples) > 1 else next(iter(samples.values()))
        allowed = self._settings.max_undecodable
        return Table(inputs, targets, undecodable=undecodable if images else None, may_fail=allowed)

    def _labels(self) -> dict[str, str]:
        """Return the feature with each output's labels; a single output has no name."""
        label = self._settings.label
        return label if isinstance(label, dict) else {} if label is None else {"": label}

    def _inputs(self) -> tuple[str, ...]:
        settings, labels = self._settings, self._labels().values()
        return settings.inputs or tuple(name for name in settings.features if name not in labels)

    def _samples(self, records: Records, name: str) -> Samples:
        if records.features[name].type != "image":
            return Numbers(records, name)

        def encoded(indices: Sequence[int]) -> list[bytes]:
            return list(records.parsed(indices, (name,))[name])

        form, where = ImageForm.of(self._settings), str(self._path)
        return ImageSamples(len(records), encoded, records.name, form, where, self._threads)

    def _files(self, stored: str) -> list[Path]:
        by_split = stored_files(self._path)
        if stored not in by_split:
            if self._path.is_file():
                hint = "make a file for each split, or draw one: `test: {fraction: 0.2}`"
                raise DataError(f"one file has no split {stored} of its own", where=str(self._path), hint=hint)
            known = sorted(by_split)
            hint = nearest(stored, known) if known else "the folder is empty"
            raise DataError(f"there are no files of split {stored}", where=str(self._path), hint=hint)
        return by_split[stored]


def stored_files(path: Path) -> dict[str, list[Path]]:
    """Return the files of each split, sorted: those of a folder by the beginning of their names; a file is `train`."""
    if path.is_file():
        return {"train": [path]}
    by_split: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            by_split.setdefault(re.split(r"[-.]", file.name)[0], []).append(file)
    return by_split


class Records:
    """Read records by number across several files, and their features."""

    def __init__(self, paths: Sequence[Path], features: Mapping[str, Feature], threads: int) -> None:
        self._paths, self.features, self._threads = paths, features, threads
        self._states = [state_of(path) for path in paths]
        self._files, self._offsets, self._sizes = array("L"), array("Q"), array("Q")
        for number, path in enumerate(paths):
            self._index(number, path)
        if not self._offsets:
            raise DataError("there are no records", where=str(paths[0]))

    def __len__(self) -> int:
        return len(self._offsets)

    def name(self, index: int) -> str:
        """Return what a record is called in messages."""
        return f"record {index - self._files.index(self._files[index])} of {self._paths[self._files[index]].name}"

    def parsed(self, indices: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
        """Return some features of records by number: (n, *shape) by name, bytes for images and raw arrays."""
        return self._parse([self._bytes(index) for index in indices], indices, names)

    def verify(self) -> None:
        """Read all records once, which verifies every checksum; DataError if one is wrong."""
        read = decoder("record")
        for path in self._paths:
            for _ in read(path, self._threads):
                pass

    def column(self, name: str) -> Any:
        """Read one feature of all records, in one pass that also verifies every checksum."""
        import numpy as np

        parts: list[Any] = []
        waiting: list[bytes] = []
        read = decoder("record")
        for path in self._paths:
            for record in read(path, self._threads):
                waiting.append(record)
                if len(waiting) == PARSED_AT_A_TIME:
                    parts.append(self._column_part(waiting, name, PARSED_AT_A_TIME * len(parts)))
                    waiting = []
        if waiting:
            parts.append(self._column_part(waiting, name, PARSED_AT_A_TIME * len(parts)))
        return np.concatenate(parts)

    def _column_part(self, records: Sequence[bytes], name: str, first: int) -> Any:
        indices = range(first, first + len(records))
        return self.numbers(name, self._parse(records, indices, (name,))[name], indices)

    def numbers(self, name: str, values: Any, indices: Sequence[int]) -> Any:
        """Return a feature's values as numbers (n, *shape); raw ones from their bytes, which need the right size."""
        import numpy as np

        feature = self.features[name]
        if feature.type == "image":
            raise DataError(f"{name!r} is an image, numbers are needed", where="data.features")
        if feature.type != "raw":
            return values
        wanted = math.prod(feature.shape) * np.dtype(feature.dtype).itemsize
        for index, value in zip(indices, values, strict=True):
            if len(value) != wanted:
                what = f"{self.name(index)}: {name!r} has {len(value)} bytes, {wanted} are needed for {feature.shape}"
                raise DataError(what, where="data.features")
        joined = b"".join(values)
        # Little-endian whatever this machine is: the bytes come from the file.
        return np.frombuffer(joined, np.dtype(feature.dtype).newbyteorder("<")).reshape(-1, *feature.shape)

    def _parse(self, records: Sequence[bytes], indices: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
        schema = {name: self.features[name] for name in names}
        parse = decoder("example")
        try:
            return dict(parse(records, schema, self._threads))
        except ValueError as error:
            for index, record in zip(indices, records, strict=True):  # to name the failing record
                try:
                    parse([record], schema, self._threads)
                except ValueError as cause:
                    what = f"{self.name(index)} does not hold {', '.join(names)} as data.features says: {cause}"
                    path = self._paths[self._files[index]]
                    raise DataError(what, where=str(path), hint="see data.features") from error
            raise

    def _index(self, number: int, path: Path) -> None:
        # Headers alone: checksums are verified in the one pass over all records that `column` or `verify` makes.
        size = path.stat().st_size
        with path.open("rb") as file:
            offset = 0
            while header := file.read(HEADER_BYTES):
                # A header that is cut short counts as a record as long as the file, so that the check below finds it.
                length = struct.unpack("<Q", header[:8])[0] if len(header) == HEADER_BYTES else size
                end = offset + HEADER_BYTES + length + FOOTER_BYTES
                if end > size:
                    hint = "get it again; files compressed as a whole have to be unpacked first"
                    raise DataError(
                        f"the file is cut short, or no TFRecord, at byte {offset}", where=str(path), hint=hint
                    )
                self._files.append(number)
                self._offsets.append(offset + HEADER_BYTES)
                self._sizes.append(length)
                offset = file.seek(end)

    def _bytes(self, index: int) -> bytes:
        number = self._files[index]
        with self._paths[number].open("rb") as file:
            file.seek(self._offsets[index])
            data = file.read(self._sizes[index])
        # After the reading, which shows as well what changed before it.
        if state_of(self._paths[number]) != self._states[number]:
            what, where = "the file changed during the run", str(self._paths[number])
            raise DataError(what, where=where, hint="run again")
        return data


@dataclass(frozen=True)
class Numbers:
    """Read a numeric feature, (N, *shape)."""

    records: Records
    name: str

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return (len(self.records), *self.records.features[self.name].shape)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Any) -> Any:
        indices = rows_at(key, len(self))
        return self.records.numbers(self.name, self.records.parsed(indices, (self.name,))[self.name], indices)


def _begins_with_a_length(begin: bytes) -> bool:
    """Return whether a file begins with the length of a record: 8 bytes, whose upper half is zero in any real file."""
    return begin[4:8] == bytes(4)


SOURCE = Source(RecordSettings, TFRecords, recognises=_begins_with_a_length)
