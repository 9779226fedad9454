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
        ('{"formats": ["coreml"]}', "'tflite', 'onnx', 'c' or 'vela'"),
        ('{"formats": ["onnx"], "layout": "chwn"}', "'nhwc' or 'nchw'"),
        ('{"formats": ["onnx"], "batch": 2}', "1 or 'dynamic'"),
        ('{"formats": ["c"], "symbol": "my-model"}', "should match pattern"),
        ('{"formats": ["vela"], "vela": {"accelerator": "ethos-u65-256"}}', "needs system_config and memory_mode"),
        ('{"formats": ["onnx"], "opset": 12}', "greater than or equal to 13"),
        ('{"formats": ["onnx"], "opset": 27}', "less than or equal to 26"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ExportConfig.model_validate_json(text)
