"""The settings of the quantize stage."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.artifacts import Scheme
from pipeline.stage import StageConfig


class QuantizeConfig(StageConfig):
    """In which number formats the model is to be exported, one action each.

    `float32` is the model as it is. `float16` halves the file at no cost in speed: weights are stored in half and
    computed in full precision. `dynamic` stores weights in 8 bits and quantizes activations while running: no data
    needed. `int8` quantizes both beforehand, by ranges that calibration samples show: the smallest and, where the
    device has integer units, the fastest. `io` is the type of an int8 TFLite file's inputs and outputs;
    microcontrollers want int8. ONNX files keep float32 inputs and outputs.
    """

    schemes: tuple[Scheme, ...] = Field(min_length=1)
    io: Literal["float32", "int8"] = "float32"

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.schemes)) != len(self.schemes):
            raise ValueError("each scheme can be named once")
        return self
