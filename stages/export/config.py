"""The settings of the export stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.contracts.stage import StageConfig
from pipeline.data.spec import Preprocess
from pipeline.records.artifacts import Format
from stages.formats.vela.accelerator import EthosU

# Whose files a setting concerns, where not all of them: the others' actions do not depend on it.
CONCERNS: Mapping[str, tuple[Format, ...]] = {
    "opset": ("onnx",),
    "layout": ("onnx",),
    "batch": ("onnx",),
    "max_transposes": ("onnx",),
    "recurrent": ("tflite", "c", "vela"),
    "symbol": ("c",),
    "vela": ("vela",),
}


class ExportConfig(StageConfig):
    """Which files to make of each quantized model.

    `tflite` and `onnx` run on anything with an operating system. `c` is the TFLite file as C source for TensorFlow Lite
    for Microcontrollers, `vela` the same compiled for an Ethos-U NPU. `unsupported` says what happens to a pair of
    format and scheme that does not exist.

    For ONNX: operator set 17 is the newest in which tf2onnx keeps a global average pool one operator: in 18, its last,
    it becomes a transpose and a mean. Newer ones, up to the last that ONNX Runtime 1.31 knows, are converted from 17;
    the evaluator that comes with the standard reads int8 files from 19 on. `layout` is that of the inputs with height,
    width and channels; nchw saves the transpose at the input where the camera's driver gives planes. A `batch` of 1
    lets runtimes plan their memory. `max_transposes` refuses a graph in which more of them are left; where nothing is
    said, a graph with more than usual gets a warning that tells their cost.

    `labels` and `preprocess` go into the files; they are the data's where nothing is said here.
    """

    formats: tuple[Format, ...] = Field(min_length=1)
    opset: int = Field(17, ge=13, le=26)
    layout: Literal["nhwc", "nchw"] = "nhwc"
    batch: Literal[1, "dynamic"] = "dynamic"
    max_transposes: int | None = Field(None, ge=0)
    shapes: dict[str, tuple[Annotated[int, Field(ge=1)], ...]] | None = Field(
        None, description="of inputs by name, without the batch: for sizes that the model leaves free"
    )
    recurrent: Literal["auto", "fused", "loop", "unrolled"] = "auto"
    symbol: str = Field("model", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", description="what names in C begin with")
    vela: EthosU = Field(default_factory=EthosU)
    labels: tuple[str, ...] | None = Field(None, min_length=1, description="names of the classes, in their order")
    preprocess: Preprocess | dict[str, Preprocess] | None = Field(None, description="what was done to the inputs")
    unsupported: Literal["refuse", "skip"] = "refuse"

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.formats)) != len(self.formats):
            raise ValueError("each format can be named once")
        return self

    def by_element(self) -> Mapping[str, Self]:
        """For each format these settings, with those that concern others alone as they are by default.

        So is `unsupported`, which decides about the run and changes no file.
        """
        fields = type(self).model_fields
        found = dict[str, Self]()
        for name in self.formats:
            others = [setting for setting, concerned in CONCERNS.items() if name not in concerned]
            defaults = {setting: fields[setting].get_default(call_default_factory=True) for setting in others}
            found[name] = self.model_copy(update={"formats": (name,), "unsupported": "refuse", **defaults})
        return found
