"""Define the settings of ONNX files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stages.formats.format import FormatSettings


class ONNXSettings(FormatSettings):
    """Set operator set, layout and batch of an ONNX file.

    Operator set 17 is the newest in which tf2onnx keeps a global average pool one operator: in 18, its last, it becomes
    a transpose and a mean. Newer ones, up to the last that ONNX Runtime 1.31 knows, are converted from 17; the
    evaluator that comes with the standard reads int8 files from 19 on. `layout` is that of the inputs with height,
    width and channels; nchw saves the transpose at the input if the camera's driver gives planes. A `batch` of 1 lets
    runtimes plan their memory. `max_transposes` refuses a graph with more of them; by default, a graph with more than
    usual gets a warning that tells their cost.
    """

    opset: int = Field(17, ge=13, le=26)
    layout: Literal["nhwc", "nchw"] = "nhwc"
    batch: Literal[1, "dynamic"] = "dynamic"
    max_transposes: int | None = Field(None, ge=0)
