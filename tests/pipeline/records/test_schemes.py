import pytest
from pydantic import ValidationError

from pipeline.records.schemes import Quantization, quantization_of


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"scheme": "float16", "granularity": "per_tensor"},
            "granularity means nothing in float16: it has no settings",
        ),
        ({"scheme": "dynamic", "qat": {}}, "qat means nothing in dynamic: it has granularity, keep_float"),
        ({"scheme": "dynamic", "granularity": "per_block"}, "per_block means nothing in dynamic: only 4-bit weights"),
        ({"scheme": "int8", "percentile": 99.9}, "percentile needs calibration: percentile"),
        ({"scheme": "int8", "qat": {}, "granularity": "per_tensor"}, "one scale a channel"),
        ({"scheme": "int8", "qat": {}, "rounding": "adaptive"}, "leave rounding and bias_correction out"),
        ({"scheme": "int8", "qat": {}, "bias_correction": True}, "leave rounding and bias_correction out"),
        ({"scheme": "int8", "keep_float": ("a", "b"), "keep_int16": ("b",)}, "b is to stay in float and in 16 bits"),
        ({"scheme": "float16", "bias_correction": False}, "bias_correction means nothing in float16"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        Quantization.model_validate(settings)


def test_a_name_stands_for_its_defaults_and_says_whether_samples_are_needed():
    mine = Quantization(scheme="int8", granularity="per_tensor")
    assert quantization_of("int8") == Quantization(scheme="int8")
    assert quantization_of(mine) is mine
    calibrated = [scheme for scheme in ("float32", "dynamic", "int8", "int16x8") if quantization_of(scheme).calibrated]
    assert calibrated == ["int8", "int16x8"]
