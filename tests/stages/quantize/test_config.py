"""Check what a recipe may say under quantize."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.records.schemes import Quantization
from stages.quantize.config import QuantizeConfig


def test_schemes_are_a_list_in_the_recipe_and_io_has_a_default() -> None:
    config = QuantizeConfig.model_validate_json('{"schemes": ["float32", "int8"]}')
    assert config.variants == {"float32": Quantization(scheme="float32"), "int8": Quantization(scheme="int8")}
    assert config.io == "float32"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "name schemes"),
        ('{"ladder": ["int8"]}', "need each other"),
        ('{"schemes": ["int8"], "max_accuracy_drop": 0.1}', "need each other"),
        ('{"ladder": ["int8", "int8"], "max_accuracy_drop": 0.1}', "each rung once"),
        ('{"ladder": ["int4"], "max_accuracy_drop": 0.1}', "'int4_dynamic' or 'selective'"),
        ('{"schemes": []}', "at least 1 item"),
        ('{"schemes": ["int8", "int8"]}', "int8 stands twice"),
        ('{"schemes": ["int4"]}', "'int8', 'int16x8', 'int4_weight_only' or 'int4_dynamic'"),
        ('{"schemes": [{"int4": {}}]}', "'int8', 'int16x8', 'int4_weight_only' or 'int4_dynamic'"),
        ('{"schemes": [{"int8": {}, "float32": {}}]}', "a map with one key"),
        ('{"schemes": [{"my int8": {"scheme": "int8"}}]}', "String should match pattern"),
        ('{"schemes": [{"int8": {"granularty": "per_tensor"}}]}', "Extra inputs"),
        ('{"schemes": [{"int8": "per_tensor"}]}', "should be an object"),
        ('{"schemes": [{"float16": {"granularity": "per_tensor"}}]}', "granularity means nothing in float16"),
        ('{"schemes": [{"dynamic": {"calibration": "entropy"}}]}', "calibration means nothing in dynamic: it has gran"),
        ('{"schemes": [{"int8": {"granularity": "per_block"}}]}', "per_block means nothing in int8"),
        ('{"schemes": [{"int8": {"percentile": 99.9}}]}', "percentile needs calibration: percentile"),
        ('{"schemes": ["int8"], "io": "uint8"}', "'float32' or 'int8'"),
        ('{"schemes": ["int8"], "bits": 8}', "Extra inputs"),
        ('{"schemes": [{"int8": {"budget": {}}}]}', "a budget limits size_bytes"),
        ('{"schemes": [{"int8": {"budget": {"size_byte": 9}}}]}', "Extra inputs"),
        ('{"schemes": [{"int8": {"budget": {"latency_ratio": 1.0}}}]}', "latency_ratio needs a target"),
        ('{"schemes": [{"int8": {"budget": {"size_bytes": 9, "target": "cpu"}}}]}', "target means nothing here"),
        ('{"schemes": [{"int8": {"budget": {"size_bytes": 9, "format": "onxn"}}}]}', "onnx"),
        ('{"schemes": [{"int8": {"budget": {"size_bytes": 9, "precisions": ["int16x8", "int16x8"]}}}]}', "one twice"),
        (
            '{"schemes": [{"int8": {"budget": {"size_bytes": 9, "format": "onnx", "precisions": ["int16x8"]}}}]}',
            "no kernels for 16-bit activations",
        ),
        ('{"schemes": [{"int8": {"qat": {}, "budget": {"size_bytes": 9}}}]}', "qat would train for each"),
        ('{"schemes": [{"float16": {"budget": {"size_bytes": 9}}}]}', "budget means nothing in float16"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        QuantizeConfig.model_validate_json(text)


def test_an_entry_with_settings_is_named_by_its_key() -> None:
    text = """{"schemes": ["int8", {"int8-u8": {"scheme": "int8", "activations": "unsigned"}},
                            {"dynamic": {"keep_float": ["head*"]}}]}"""
    config = QuantizeConfig.model_validate_json(text)
    assert config.variants == {
        "int8": Quantization(scheme="int8"),
        "int8-u8": Quantization(scheme="int8", activations="unsigned"),
        "dynamic": Quantization(scheme="dynamic", keep_float=("head*",)),
    }


def test_what_is_written_down_is_the_same_for_every_spelling_and_can_be_read_again() -> None:
    short, long = (
        QuantizeConfig.model_validate_json(text)
        for text in ('{"schemes": ["int8"]}', '{"schemes": [{"int8": {"scheme": "int8", "granularity": null}}]}')
    )
    assert short == long
    assert QuantizeConfig.model_validate_json(short.model_dump_json()) == short


def test_each_element_has_a_configuration_of_its_own() -> None:
    config = QuantizeConfig.model_validate_json('{"schemes": ["float32", {"mine": {"scheme": "int8"}}], "io": "int8"}')
    elements = config.by_element()
    assert list(elements) == ["float32", "mine"]
    assert elements["mine"].quantization == Quantization(scheme="int8")
    assert elements["mine"].io == "int8"
