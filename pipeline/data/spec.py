"""Define the recipe's `data`: where samples come from, what they are, and how they are split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.errors import listed
from pipeline.records.declared import is_requested, requested
from pipeline.records.values import Value

Source = Literal["npz", "image_folder", "csv", "tfrecord", "python"]
Task = Literal["classes", "multilabel", "regression", "unlabelled"]
Resize = Literal["bilinear", "nearest", "area", "bicubic", "crop", "pad"]

FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*")

# Settings that only some sources read; settings without an entry apply to all.
READ_BY: dict[str, tuple[Source, ...]] = {
    "path": ("npz", "image_folder", "csv", "tfrecord"),
    "function": ("python",),
    "size": ("image_folder", "csv", "tfrecord"),
    "resize": ("image_folder", "csv", "tfrecord"),
    "channels": ("image_folder", "csv", "tfrecord"),
    "max_undecodable": ("image_folder", "csv", "tfrecord"),
    "classes": ("image_folder", "csv"),
    "image": ("csv",),
    "inputs": ("csv", "tfrecord"),
    "label": ("csv", "tfrecord"),
    "split": ("csv",),
    "features": ("tfrecord",),
}
NEEDED: dict[Source, tuple[str, ...]] = {
    "npz": ("path",),
    "image_folder": ("path", "size"),
    "csv": ("path",),
    "tfrecord": ("path", "features"),
    "python": ("function",),
}


class Preprocess(Value):
    """Preprocess stored inputs for the model: `x * scale + offset`, or one of Keras' named modes, in float32."""

    scale: float = 1.0
    offset: float = 0.0
    mode: Literal["tf", "caffe", "torch"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.mode is not None and (self.scale, self.offset) != (1.0, 0.0):
            raise ValueError("give either mode or scale and offset")
        return self

    def __call__(self, x: Any) -> Any:
        """Preprocess to float32; the modes are those of `keras.applications.imagenet_utils`, on RGB 0…255."""
        import numpy as np

        x = np.asarray(x, dtype=np.float32)
        if self.mode == "tf":
            return x / np.float32(127.5) - np.float32(1)
        if self.mode == "torch":
            mean, deviation = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
            return (x / np.float32(255) - mean) / deviation
        if self.mode == "caffe":
            return x[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
        return x * np.float32(self.scale) + np.float32(self.offset)


class HeldOutPart(Value):
    """Hold out a part of the training data: drawn by the recipe's seed, the same share of each class."""

    from_: Literal["train"] = Field(default="train", alias="from")
    fraction: float = Field(default=0.1, gt=0, lt=1)


class CalibrationPart(Value):
    """Select samples that represent the data in quantization, drawn by the recipe's seed without regard to labels."""

    from_: str = Field(default="train", alias="from")
    take: int = Field(default=256, ge=1)


class Feature(Value):
    """Describe one feature of a TFRecord's examples: an encoded image, numbers, or the bytes of a `dtype` array."""

    type: Literal["image", "float32", "int64", "raw"]
    shape: tuple[int, ...] = ()
    dtype: Literal["uint8", "int8", "int16", "int32", "float16", "float32"] = "uint8"


def _known_metric(name: str) -> str:
    if not FUNCTION.fullmatch(name) and not is_requested(name):
        known = [f"{one.name} such as {one.name[:-1]}5" if one.is_family else one.name for one in requested()]
        raise ValueError(f"{name!r} is no metric; allowed: {', '.join(known)}, or module:function")
    return name


def _told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    flat = [name.rpartition(":")[2] for name in names]
    if len(set(flat)) < len(flat):
        raise ValueError(f"metrics: two are called {next(name for name in flat if flat.count(name) > 1)}")
    return names


MetricName = Annotated[str, AfterValidator(_known_metric)]
MetricNames = Annotated[tuple[MetricName, ...], Field(min_length=1), AfterValidator(_told_apart)]
Metrics = MetricNames | dict[str, MetricNames]


def named_metrics(metrics: Metrics | None) -> tuple[str, ...]:
    """Return all requested metrics, of whatever output."""
    if isinstance(metrics, dict):
        return tuple(dict.fromkeys(name for names in metrics.values() for name in names))
    return metrics or ()


class DataSpec(Value):
    """Configure the recipe's `data`. Every split but `train` is optional; stages ask for what they need."""

    source: Source
    path: Path | None = Field(None, description="a file or folder, from the recipe's folder")
    function: str | None = Field(None, pattern=f"^{FUNCTION.pattern}$", description="python: module:function")
    task: Task | dict[str, Task] | None = Field(
        None, description="what targets are, of all outputs or by output; told from them where it is not said"
    )
    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        None, description="height and width that images are brought to"
    )
    resize: Resize = Field("bilinear", description="how; crop and pad keep proportions, the others stretch")
    channels: Literal[1, 3, 4] = Field(3, description="of images, whatever they are stored with")
    max_undecodable: float = Field(
        0.0, ge=0, lt=1, description="the share of images that may fail to decode; they are left out and counted"
    )
    classes: tuple[str, ...] | None = Field(None, description="names in the model's order; else sorted")
    image: str | None = Field(None, description="csv: the column with paths of images, from the csv's folder")
    inputs: tuple[str, ...] | dict[str, tuple[str, ...]] | None = Field(
        None, description="csv: columns, all others if left out; by input name for several inputs. tfrecord: features"
    )
    label: str | tuple[str, ...] | dict[str, str | tuple[str, ...]] | None = Field(
        None, description="csv: a column or several; tfrecord: a feature; by output name for several outputs"
    )
    split: str | None = Field(None, description="csv: the column that names each row's split")
    features: dict[str, Feature] | None = Field(None, description="tfrecord: the schema")
    preprocess: Preprocess | dict[str, Preprocess] = Field(default_factory=Preprocess)
    check_preprocess: bool = Field(
        True, description="stop where the source is no better than chance, and is so with another preprocessing"
    )
    validation: HeldOutPart | str = Field(default_factory=HeldOutPart)
    calibration: CalibrationPart = Field(default_factory=CalibrationPart)
    test: HeldOutPart | str | None = None
    metrics: Metrics | None = Field(None, description="those of the task if left out; by output name for several")

    @model_validator(mode="after")
    def _settings_of_the_source(self) -> Self:
        for name in sorted(self.model_fields_set):
            said = getattr(self, name) != type(self).model_fields[name].default
            if said and self.source not in READ_BY.get(name, (self.source,)):
                raise ValueError(f"{name} is for source {listed(READ_BY[name], 'or')}, not for {self.source}")
        for name in NEEDED[self.source]:
            if getattr(self, name) is None:
                raise ValueError(f"source {self.source} needs {name}")
        if self.size is None and (self.image is not None or self._has_image_features()):
            raise ValueError("images need size: [height, width]")
        if self.source == "csv" and self.image is not None and self.inputs is not None:
            raise ValueError("give either image or inputs")
        if isinstance(self.label, dict) and self.classes is not None:
            raise ValueError("classes are of one label; of several outputs words are sorted")
        if self.unlabelled and self.metrics is not None:
            raise ValueError("metrics need labels, and task is unlabelled")
        return self

    @property
    def unlabelled(self) -> bool:
        """Return whether the recipe says that there are no labels, of any output."""
        tasks = self.task.values() if isinstance(self.task, dict) else (self.task,)
        return set(tasks) == {"unlabelled"}

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Return height, width and channels of images; without height and width if `size` is not given."""
        return (*(self.size or ()), self.channels)

    def _has_image_features(self) -> bool:
        return any(feature.type == "image" for feature in (self.features or {}).values())

    def form(self) -> dict[str, Any]:
        """Return the settings that define samples, as plain data: what was set, without paths and splits."""
        apart = {"source", "path", "function", "preprocess", "check_preprocess"}
        apart |= {"validation", "calibration", "test", "metrics", "split"}
        return self.model_dump(mode="json", by_alias=True, exclude=apart, exclude_none=True, exclude_defaults=True)
