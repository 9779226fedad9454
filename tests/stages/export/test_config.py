"""Check what a recipe may say under export."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from stages.export.config import OWNED, ExportConfig


def test_defaults() -> None:
    config = ExportConfig.model_validate_json('{"formats": ["tflite", "onnx"]}')
    assert config == ExportConfig(formats=("tflite", "onnx"), opset=17, unsupported="refuse")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"formats": []}', "at least 1 item"),
        ('{"formats": ["onnx", "onnx"]}', "named once"),
        ('{"formats": ["coreml"]}', "'c', 'onnx', 'openvino', 'tflite' or 'vela'"),
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


def test_a_setting_reaches_the_formats_that_it_concerns_alone() -> None:
    settings = {
        "opset": 15,
        "layout": "nchw",
        "batch": 1,
        "max_transposes": 9,
        "recurrent": "loop",
        "symbol": "keywords",
    }
    vela = {"accelerator": "ethos-u55-256"}
    given = {"formats": ["tflite", "onnx", "c", "vela"], "labels": ["a"], "vela": vela, **settings}
    given["unsupported"] = "skip"  # it affects the run, and no file
    by_format = ExportConfig.model_validate_json(json.dumps(given)).by_element()
    changed = {name: config.model_dump(mode="json", exclude_defaults=True) for name, config in by_format.items()}
    for_all = {"labels": ["a"]}
    assert changed == {
        "tflite": {"formats": ["tflite"], "recurrent": "loop", **for_all},
        "onnx": {"formats": ["onnx"], "opset": 15, "layout": "nchw", "batch": 1, "max_transposes": 9, **for_all},
        "c": {"formats": ["c"], "recurrent": "loop", "symbol": "keywords", **for_all},
        "vela": {"formats": ["vela"], "recurrent": "loop", "vela": vela, **for_all},
    }
    for name, config in by_format.items():
        assert config.model_dump().keys() == {"formats", "shapes", "labels", "preprocess", "unsupported"} | OWNED[name]


def test_settings_may_stand_under_the_name_of_their_format() -> None:
    flat = ExportConfig.model_validate_json('{"formats": ["onnx", "c"], "opset": 15, "symbol": "kws"}')
    text = '{"formats": ["onnx", "c"], "onnx": {"opset": 15}, "c": {"symbol": "kws"}}'
    nested = ExportConfig.model_validate_json(text)
    assert nested.by_element().keys() == flat.by_element().keys()
    for name, config in flat.by_element().items():
        assert nested.by_element()[name].model_dump() == config.model_dump()
    apart = ExportConfig.model_validate_json('{"formats": ["tflite", "c"], "c": {"recurrent": "loop"}}').by_element()
    assert {name: config.model_dump()["recurrent"] for name, config in apart.items()} == {"tflite": "auto", "c": "loop"}
    for text, words in (
        ('{"formats": ["onnx"], "onnx": {"opst": 15}}', "onnx.opst"),
        ('{"formats": ["onnx"], "opset": 15, "onnx": {"opset": 16}}', "opset is set twice"),
        ('{"formats": ["onnx"], "onnx": {"opset": 99}}', "less than or equal to 26"),
    ):
        with pytest.raises(ValidationError, match=words):
            ExportConfig.model_validate_json(text)
