"""What a recipe may say under export."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stages.export import ExportConfig


def test_defaults() -> None:
    config = ExportConfig.model_validate_json('{"formats": ["tflite", "onnx"]}')
    assert config == ExportConfig(formats=("tflite", "onnx"), opset=17, unsupported="refuse")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"formats": []}', "at least 1 item"),
        ('{"formats": ["onnx", "onnx"]}', "named once"),
        ('{"formats": ["coreml"]}', "'tflite' or 'onnx'"),
        ('{"formats": ["onnx"], "opset": 12}', "greater than or equal to 13"),
        ('{"formats": ["onnx"], "opset": 19}', "less than or equal to 18"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ExportConfig.model_validate_json(text)
