"""Define the settings of the quantize stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from pipeline.contracts.stage import StageConfig
from pipeline.data.samples import Preprocess
from pipeline.records.schemes import Budget, Quantization, Scheme
from pipeline.system.plugins import require_installed
from stages.formats.format import OnDevice
from stages.formats.registry import formats, names_one_that

LADDER, SELECTIVE = "ladder", "selective"
FASTER_FORMAT = "tflite"  # in which faster_on measures
Rung = Literal[Scheme, "selective"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)]


def _spelt_out(entry: Any) -> Any:
    """Expand an entry to a map from its name to all its settings: a bare name is that of its scheme."""
    if isinstance(entry, str):
        return {entry: {"scheme": entry}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ValueError("a scheme is a name, or a map with one key: `int8` or `{int8: {granularity: per_tensor}}`")
    ((name, settings),) = entry.items()
    return {name: {"scheme": name, **(settings or {})} if isinstance(settings, Mapping | None) else settings}


Entry = Annotated[
    dict[Name, Quantization], BeforeValidator(_spelt_out, json_schema_input_type=Name | dict[Name, Quantization])
]


class QuantizeConfig(StageConfig):
    """Set in which number formats to export the model, one action each.

    An entry of `schemes` is a scheme's name, or a name of your own with settings: `{int8-mse: {scheme: int8,
    calibration: mse}}`. Metrics and folders use the name: `onnx/int8-mse`.

    `float32` is the model as it is. `float16` halves the file at no cost in speed: weights are stored in half and
    computed in full precision. `weight_only` stores weights in 8 bits and computes in float32: a quarter of the file,
    nearly no loss, no speed. `dynamic` stores weights in 8 bits and quantizes activations while running: no data
    needed. `int8` quantizes both beforehand, by ranges measured on calibration samples: the smallest and, if the device
    has integer units, the fastest. `int16x8` keeps activations in 16 bits: nearly float's accuracy if int8 loses too
    much, at less speed. `int4_weight_only` and `int4_dynamic` are `weight_only` and `dynamic` with weights in 4 bits
    (TFLite): half of their files, at a loss that you should measure. `io` is the type of TFLite files' inputs and
    outputs: with `int8` those of int8 files are int8 and those of int16x8 files int16, as microcontrollers need them.
    ONNX files keep float32 ones.

    A `ladder` finds the fastest scheme that loses at most `max_accuracy_drop` of the model's accuracy on the validation
    split: its rungs are measured in `ladder_format` on `ladder_target`, and tried from the fastest on. `selective` is
    int8 with the layers that it harms most left in float, as few as suffice. The result is called `ladder`.
    `labels` and `preprocess` are what the files of a `budget` hold besides the model; by default those of the data.
    """

    schemes: tuple[Entry, ...] | None = Field(None, min_length=1)
    io: Literal["float32", "int8"] = "float32"
    ladder: tuple[Rung, ...] | None = Field(None, min_length=1)
    max_accuracy_drop: float | None = Field(None, ge=0, le=1)
    ladder_format: Annotated[str, names_one_that(OnDevice)] = "tflite"
    ladder_target: str = "cpu"
    ladder_rounds: int = Field(10, ge=1)
    labels: tuple[str, ...] | None = Field(None, min_length=1, description="class names, as export writes them")
    preprocess: Preprocess | dict[str, Preprocess] | None = Field(None, description="as export writes it into files")

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.schemes and not self.ladder:
            raise ValueError("name schemes, such as `schemes: [float32, int8]`, or a ladder")
        if bool(self.ladder) != (self.max_accuracy_drop is not None):
            raise ValueError("ladder and max_accuracy_drop need each other")
        if self.ladder and len(set(self.ladder)) != len(self.ladder):
            raise ValueError("a ladder has each rung once")
        if self.ladder and LADDER in self.variants:
            raise ValueError(f"{LADDER} is the ladder's own name")
        return self

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [name for entry in self.schemes or () for name in entry]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"each name can stand once, {twice} stands twice: call one of them as you like, {{NAME: {{scheme: …}}}}"
            )
        return self

    @model_validator(mode="after")
    def _budgets_can_be_measured(self) -> Self:
        for scheme in self.variants.values():
            if scheme.budget is not None:
                name = scheme.budget.format
                able = [known.name for known in formats().values() if isinstance(known, OnDevice)]
                reason = formats()[require_installed(name, able)].refuses(scheme)
                if reason:
                    raise ValueError(f"a budget for {name} files: {reason}")
        return self

    @property
    def variants(self) -> dict[str, Quantization]:
        """Return the schemes by name."""
        return {name: settings for entry in self.schemes or () for name, settings in entry.items()}

    def by_element(self) -> Mapping[str, Self]:
        """Return one configuration for each scheme, by its name, and one for the ladder."""
        alone = type(self).model_validate({"schemes": ("float32",), "io": self.io})
        written = {"labels": self.labels, "preprocess": self.preprocess}
        configs = {
            name: alone.model_copy(update={"schemes": ({name: q},), **(written if q.budget else {})})
            for name, q in self.variants.items()
        }
        return configs | ({LADDER: self.model_copy(update={"schemes": None})} if self.ladder else {})

    @property
    def quantization(self) -> Quantization:
        """Return the one scheme of an action without a ladder."""
        (settings,) = self.variants.values()
        return settings

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Return the budgets of all schemes."""
        return tuple(scheme.budget for scheme in self.variants.values() if scheme.budget is not None)

    @property
    def possible(self) -> tuple[Quantization, ...]:
        """Return all possible results of an action."""
        rungs = tuple(Quantization(scheme="int8" if rung == "selective" else rung) for rung in self.ladder or ())
        return rungs or tuple(self.variants.values())
