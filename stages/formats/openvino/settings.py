"""Define the settings of OpenVINO models."""

from __future__ import annotations

from stages.formats.onnx.settings import ONNXSettings


class OpenVINOSettings(ONNXSettings):
    """Hold the settings of the ONNX file that the model is made from."""
