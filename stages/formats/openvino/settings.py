"""The settings of OpenVINO models."""

from __future__ import annotations

from stages.formats.onnx.settings import ONNXSettings


class OpenVINOSettings(ONNXSettings):
    """Those of the ONNX file that it is made from."""
