"""Guess the schema of TFRecords from their first example: the features that fit the model's input, and the label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from pipeline.data.decoders import decoder
from pipeline.data.tfrecord import stored_files
from pipeline.errors import DataError
from pipeline.records.artifacts import TensorSpec
from stages.commands.starting.first_source import COLORS, Setting, label_among

IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8")  # how encoded images begin
BYTES = {1: "uint8", 2: "float16", 4: "float32"}  # an element
SHOWN = 8


def of_records(path: Path, entry: TensorSpec, threads: int) -> Iterator[Setting]:
    """Yield `features`, `size`, `label`; DataError if no feature, or several, can be the model's input."""
    features = _first_example(path, threads)
    shape = tuple(size or 1 for size in entry.shape[1:])
    label = label_among(name for name, feature in features.items() if _is_number(feature))
    fitting = {
        name: kind for name, feature in features.items() if name != label and (kind := _as_input(feature, shape))
    }
    if len(fitting) != 1:
        shown = ", ".join(list(features)[:SHOWN]) or "none"
        what = f"{'no feature' if not fitting else 'more than one feature'} of its examples fits the model's input"
        hint = "leave --data out, and describe the features in the recipe (docs/guide/data-and-models.md)"
        raise DataError(f"{what} {entry.name!r} {shape}; features: {shown}", where=str(path), hint=hint)
    ((name, kind),) = fitting.items()
    numbers = [other for other, feature in features.items() if other != name and _is_number(feature)]
    usual = label is not None
    label = label or (numbers[0] if len(numbers) == 1 else None)
    labels = {} if label is None else {label: {"type": _number_type(features[label])}}
    yield Setting(key="features", value={name: kind, **labels}, doubt="from the first example")
    if kind["type"] == "image":
        yield Setting(key="size", value=shape[:2], note="the model's; `resize: crop` keeps proportions")
        if shape[2] != 3:
            yield Setting(key="channels", value=shape[2], note="the model's")
    if label is not None:
        yield Setting(key="label", value=label, doubt="" if usual else "guessed, none is called label")


def _first_example(path: Path, threads: int) -> Mapping[str, Any]:
    """Return the features of the first example, as TensorFlow's messages, by name in sorted order."""
    from google.protobuf.message import DecodeError

    from stages.keras.tensorflow import import_tensorflow

    files = stored_files(path).get("train")
    if not files:
        hint = "files are named by their split: train-00000-of-00010"
        raise DataError("there are no files of split train", where=str(path), hint=hint)
    record = next(iter(decoder("record")(files[0], threads)), None)
    if record is None:
        raise DataError("there are no records", where=str(files[0]))
    try:
        example = import_tensorflow().train.Example.FromString(record)
    except DecodeError as error:
        raise DataError("its records are no tf.train.Examples", where=str(files[0])) from error
    return dict(sorted(example.features.feature.items()))


def _as_input(feature: Any, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """Return the recipe's form of a feature that can be an input of `shape`, else None."""
    values = getattr(feature, feature.WhichOneof("kind") or "bytes_list").value
    if feature.HasField("bytes_list") and len(values) == 1:
        if values[0].startswith(IMAGES):
            return {"type": "image"} if len(shape) == 3 and shape[-1] in COLORS else None
        dtype = next((name for size, name in BYTES.items() if len(values[0]) == size * prod(shape)), None)
        return None if dtype is None else {"type": "raw", "dtype": dtype, "shape": shape}
    if len(values) != prod(shape) or feature.HasField("bytes_list"):
        return None
    return {"type": _number_type(feature), "shape": shape}


def _is_number(feature: Any) -> bool:
    """Return whether a feature is one number."""
    return feature.WhichOneof("kind") in ("int64_list", "float_list") and (
        len(getattr(feature, feature.WhichOneof("kind")).value) == 1
    )


def _number_type(feature: Any) -> str:
    return "int64" if feature.HasField("int64_list") else "float32"
