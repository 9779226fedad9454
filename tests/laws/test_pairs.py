"""Check which schemes a format has, and the reason for each missing one."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pipeline.records.schemes import Quantization, Scheme, Training
from stages.formats.registry import formats


def test_every_scheme_is_there_in_both_formats_but_three() -> None:
    refused = [
        (target_format, scheme)
        for target_format in ("tflite", "onnx")
        for scheme in get_args(Scheme)
        if formats()[target_format].refuses(Quantization(scheme=scheme))
    ]
    assert refused == [("onnx", "int16x8"), ("onnx", "int4_weight_only"), ("onnx", "int4_dynamic")]


def test_microcontrollers_take_what_their_kernels_compute() -> None:
    made = {
        target_format: [s for s in get_args(Scheme) if formats()[target_format].refuses(Quantization(scheme=s)) is None]
        for target_format in ("c", "vela")
    }
    assert made == {"c": ["float32", "int8", "int16x8"], "vela": ["int8"]}
    reason = formats()["vela"].refuses(Quantization(scheme="int8", activations="unsigned"))
    assert reason is not None
    assert "are signed" in reason  # they are made of the TFLite file


@pytest.mark.parametrize(
    ("settings", "by", "says"),
    [
        ({"scheme": "int8", "calibration": "entropy"}, "tflite", "by entropy are ONNX Runtime's"),
        ({"scheme": "int8", "calibration": "percentile", "percentile": 99.9}, None, ""),
        ({"scheme": "int8", "calibration": "auto"}, None, ""),
        ({"scheme": "int8", "activations": "unsigned"}, "tflite", "are signed"),
        ({"scheme": "int8", "qat": Training()}, "onnx", "that tfmot trains with"),
        ({"scheme": "dynamic", "granularity": "per_channel"}, "onnx", "one scale a kernel"),
        ({"scheme": "int4_weight_only", "keep_float": ("head",)}, "onnx", "for TFLite only"),
        ({"scheme": "int4_dynamic", "granularity": "per_block"}, "onnx", "for TFLite only"),
        ({"scheme": "int8", "keep_float": ("head",)}, None, ""),
        ({"scheme": "int8", "keep_int16": ("head",)}, "onnx", "no kernels for 16-bit activations"),
        ({"scheme": "int8", "granularity": "per_tensor"}, None, ""),
        ({"scheme": "int8", "calibration": "min_max", "activations": "signed"}, None, ""),
        ({"scheme": "weight_only", "granularity": "per_tensor", "keep_float": ("a",)}, None, ""),
    ],
)
def test_settings_that_a_quantizer_lacks_are_refused(settings: Any, by: str | None, says: str) -> None:
    how = Quantization(**settings)
    for target_format in ("tflite", "onnx"):
        reason = formats()[target_format].refuses(how)
        assert (reason is not None) == (target_format == by)
        assert reason is None or says in reason


def test_blocks_that_are_dequantized_are_refused() -> None:
    reason = formats()["tflite"].refuses(Quantization(scheme="int4_weight_only", granularity="per_block"))
    assert reason is not None
    assert "DEQUANTIZE does not know blocks" in reason


def test_ranges_that_training_set_are_not_measured_by_another_method() -> None:
    reason = formats()["tflite"].refuses(Quantization(scheme="int8", qat=Training(), calibration="auto"))
    assert reason is not None
    assert "qat trains the ranges" in reason
    assert formats()["tflite"].refuses(Quantization(scheme="int8", qat=Training(), calibration="min_max")) is None
