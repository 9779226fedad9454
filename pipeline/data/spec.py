"""Define the recipe's `data`: where samples come from, what they are, and how they are split."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from pipeline.data.declaration import (
    SourceSettings,
    every_source,
    fields_of_sources,
    installed_source,
    owners,
    source_named,
    source_names,
)
from pipeline.data.samples import Preprocess, Task
from pipeline.errors import listed
from pipeline.recipe.user_code import FUNCTION
from pipeline.records.declared import is_requested, requested
from pipeline.records.values import Value


class HeldOutPart(Value):
    """Hold out a part of a stored split: drawn by the recipe's seed, the same share of each class."""

    from_: str = Field(default="train", alias="from")
    fraction: float = Field(default=0.1, gt=0, lt=1)


class CalibrationPart(Value):
    """Select samples that represent the data in quantization, drawn by the recipe's seed without regard to labels."""

    from_: str = Field(default="train", alias="from")
    take: int = Field(default=256, ge=1)


def _known_metric(name: str) -> str:
    if not re.fullmatch(FUNCTION, name) and not is_requested(name):
        known = [
            f"{metric.name} such as {metric.name[:-1]}5" if metric.is_family else metric.name for metric in requested()
        ]
        raise ValueError(f"{name!r} is not a metric; allowed: {', '.join(known)}, or module:function")
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
    """Configure the recipe's `data`. Every split but `train` is optional; stages ask for what they need.

    The keys of the source are added, which its own settings define.
    """

    model_config = ConfigDict(extra="allow")  # the source's keys, once they are checked

    source: Annotated[str, AfterValidator(installed_source)]
    task: Task | dict[str, Task] | None = Field(
        None, description="what targets are, of all outputs or by output; told from them where it is not said"
    )
    preprocess: Preprocess | dict[str, Preprocess] = Field(default_factory=Preprocess)
    check_preprocess: bool = Field(
        True, description="stop where the source is no better than chance, and is so with another preprocessing"
    )
    validation: HeldOutPart | str = Field(
        default_factory=HeldOutPart, description="a stored split, or a part that is taken out of train or of test"
    )
    calibration: CalibrationPart = Field(default_factory=CalibrationPart)
    test: HeldOutPart | str | None = Field(None, description="a stored split, or a part of train")
    judge_on: Literal["test", "validation"] = Field(
        "test", description="the split that accuracies are measured on: validation while something is still chosen"
    )
    metrics: Metrics | None = Field(None, description="those of the task if left out; by output name for several")

    @field_validator("preprocess")
    @classmethod
    def _none_at_all(cls, rules: Preprocess | dict[str, Preprocess]) -> Preprocess | dict[str, Preprocess]:
        """Take `{}` as no preprocessing, whatever the inputs are called."""
        return rules or Preprocess()

    @field_validator("test")
    @classmethod
    def _test_of_train(cls, part: HeldOutPart | str | None) -> HeldOutPart | str | None:
        if isinstance(part, HeldOutPart) and part.from_ != "train":
            raise ValueError(f"test samples are drawn from train, not from {part.from_}; a stored split: `test: NAME`")
        return part

    @model_validator(mode="after")
    def _settings_of_the_source(self, info: ValidationInfo) -> Self:
        """Check the keys of the source, and keep them as its settings define them, with defaults filled in."""
        kind, values = source_named(self.source).settings, self._own
        # A key that no source reads stays, and is refused below as unknown.
        for key in sorted(values.keys() - kind.model_fields.keys()):
            readers = owners(key)
            if readers and not _is_default(key, values.pop(key)):
                raise ValueError(f"{key} is for source {listed(readers, 'or')}, not for {self.source}")
        for key, field in kind.model_fields.items():
            if field.is_required() and values.get(key) is None:
                raise ValueError(f"source {self.source} needs {key}")
        # Settings from a file are JSON: lists are tuples there, and text is a path.
        settings = kind.model_validate_json(json.dumps(values)) if info.mode == "json" else kind.model_validate(values)
        # Only fields are frozen: the extra keys are a plain dict.
        values.update({key: getattr(settings, key) for key in kind.model_fields})
        if self.unlabelled and self.metrics is not None:
            raise ValueError("metrics need labels, and task is unlabelled")
        return self

    @property
    def _own(self) -> dict[str, Any]:
        assert self.__pydantic_extra__ is not None
        return self.__pydantic_extra__

    @property
    def settings(self) -> SourceSettings:
        """Return the settings that the source owns."""
        kind: type[SourceSettings] = source_named(self.source).settings
        return kind(**self._own)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Return the names of the classes, if the recipe gives them."""
        return self._own.get("classes")

    def class_names(self, folder: Path) -> tuple[str, ...] | None:
        """Return the names of the classes in the order of their numbers; `folder` is the recipe's.

        None if nothing names them before samples are read.
        """
        named = source_named(self.source).class_names
        if self.classes is not None or self.unlabelled or named is None:
            return self.classes
        return named(self.settings, folder)

    @property
    def judged(self) -> bool:
        """Return whether there is a split on which accuracies can be measured."""
        return self.test is not None or self.judge_on == "validation"

    @property
    def unlabelled(self) -> bool:
        """Return whether the recipe says that there are no labels, of any output."""
        tasks = self.task.values() if isinstance(self.task, dict) else (self.task,)
        return set(tasks) == {"unlabelled"}

    def form(self) -> dict[str, Any]:
        """Return the settings that define samples, as plain data: what was set, without paths and splits."""
        common = self.model_dump(mode="json", include={"task"}, exclude_none=True)
        return {**common, **self.settings.form()}

    @classmethod
    def recipe_fields(cls) -> dict[str, FieldInfo]:
        """Return the fields that a recipe can set here: also those of all installed sources."""
        return {**super().recipe_fields(), **fields_of_sources()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the keys of all installed sources beside the common ones."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema["additionalProperties"] = False
        schema["properties"]["source"]["enum"] = list(source_names())
        for source in every_source().values():
            own = handler.resolve_ref_schema(handler(source.settings.__pydantic_core_schema__))
            for key, described in own["properties"].items():
                schema["properties"][key] = _either(schema["properties"].get(key), described)
        return schema


def _is_default(key: str, value: Any) -> bool:
    """Return whether a key says nothing: what its sources take it for if it is left out."""
    return value is None or value == fields_of_sources()[key].default


def _either(known: dict[str, Any] | None, other: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a key that several sources read: of all their values, with all that is said of it."""
    if known is None or known == other:
        return other
    options = [option for schema in (known, other) for option in schema.get("anyOf", [_without_words(schema)])]
    descriptions = dict.fromkeys(schema["description"] for schema in (known, other) if "description" in schema)
    both = [option for index, option in enumerate(options) if option not in options[:index]]
    values = {"anyOf": both} if len(both) > 1 else both[0]
    return {"title": known["title"], **({"description": "; ".join(descriptions)} if descriptions else {}), **values}


def _without_words(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("title", "description", "default")}
