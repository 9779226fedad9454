"""Find why a quantized file is off: ranges that do not fit and coarse constants, in real files, and only there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PostconditionError
from pipeline.records.schemes import Quantization
from stages.formats.format import FileTensor
from stages.formats.onnx.convert import convert_onnx
from stages.formats.registry import file_tensors, shows_tensors
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.tensors import input_ends
from stages.keras.layer_calls import LayerCall, record_layers
from stages.keras.normal_form import copy_model
from stages.verify.causes import cause_in_constants, cause_in_inputs, cause_in_ranges, input_calls, outside_in_words
from stages.verify.config import Bounds, Tolerances, VerifyConfig

FORMATS = ("tflite", "onnx")


def converted(target_format: str, model: Any, how: Any, samples: Any) -> bytes:
    if target_format == "tflite":
        return convert_tflite(model, how, calibration=samples)
    return convert_onnx(model, how, calibration=samples)


def found_in(target_format: str, model: Any, data: bytes, images: Any) -> Any:
    kind: Any = f"{target_format}-model"
    samples = [{"image": image[None]} for image in images]
    seen = [([*input_calls(one), *record_layers(model, one)], file_tensors(kind, data, one)) for one in samples]
    return cause_in_ranges(seen)


@pytest.mark.parametrize("target_format", FORMATS)
def test_samples_outside_of_what_was_calibrated_are_told_from_ranges_that_are_too_wide(
    target_format: str, tiny_xception: Any, tiny_images: Any
) -> None:
    images = tiny_images[:4]

    def found(factor: float) -> Any:
        data = converted(target_format, tiny_xception, "int8", tiny_images * np.float32(factor))
        return found_in(target_format, tiny_xception, data, images)

    assert found(1.0) is None
    narrow = found(0.25)
    assert "'image' gives on test samples lies outside its calibrated range" in narrow.said
    assert "more or better calibration samples" in narrow.advice
    wide = found(40.0)
    assert "far too wide" in wide.said
    assert "more" not in wide.advice
    assert "percentile" in wide.advice


@pytest.mark.parametrize("target_format", FORMATS)
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_the_share_of_numbers_outside_of_ranges_is_told_by_layer(
    target_format: str, factor: float, tiny_xception: Any, tiny_images: Any
) -> None:
    data = converted(target_format, tiny_xception, "int8", tiny_images * np.float32(factor))
    every = [*input_calls({"image": tiny_images}), *record_layers(tiny_xception, {"image": tiny_images})]
    one = {"image": tiny_images[:1]}
    calls = [*input_calls(one), *record_layers(tiny_xception, one)]
    kind: Any = f"{target_format}-model"
    said = outside_in_words((calls, file_tensors(kind, data, one)), [every])
    if factor == 1.0:
        assert said is None
        return
    limit = np.abs(tiny_images).max() * factor
    assert said is not None
    share = float((np.abs(tiny_images) > limit * (1 + 1 / 255)).mean())
    told = re.search(r"([\d.]+)% of 'image'", said)
    assert told is not None
    assert float(told[1]) / 100 == pytest.approx(share, abs=0.005)


def test_an_input_that_the_file_stores_in_8_bits_is_looked_at_too(tiny_xception: Any, tiny_images: Any) -> None:
    ends = input_ends(convert_tflite(tiny_xception, "int8", "int8", tiny_images * np.float32(0.25)))
    assert ends["image"] == pytest.approx((-0.25, 0.25), abs=0.01)
    found = cause_in_inputs({"image": tiny_images}, ends)
    assert found is not None
    assert "input 'image' in the test samples lie outside the file's range" in found.said
    assert cause_in_inputs({"image": tiny_images * np.float32(0.2)}, ends) is None
    assert input_ends(convert_tflite(tiny_xception, "float32")) == {}


@pytest.mark.parametrize("target_format", FORMATS)
def test_channels_that_one_scale_leaves_few_steps_are_found(
    target_format: str, tiny_xception: Any, tiny_images: Any
) -> None:
    uneven = copy_model(tiny_xception)
    (kernel,) = uneven.get_layer("stem").get_weights()
    uneven.get_layer("stem").set_weights([kernel * np.where(np.arange(40) < 3, 1.0, 0.01).astype(np.float32)])
    kind = f"{target_format}-model"
    for granularity, coarse in (("per_tensor", True), ("per_channel", False)):
        how = Quantization(scheme="int8", granularity=granularity)
        if target_format == "tflite":
            how = Quantization(scheme="weight_only", granularity=granularity)
        data = converted(target_format, uneven, how, None if target_format == "tflite" else tiny_images)
        found = cause_in_constants(shows_tensors(kind).small_constants(data))
        assert (found is not None) is coarse
        if found is not None:
            assert " of 40 channels of the constant" in found.said
            assert int(found.said.split()[0]) > 15
            assert "granularity: per_channel" in found.advice


def test_a_range_of_nothing_is_no_range() -> None:
    values = np.zeros((1, 8), np.float32)
    calls = [LayerCall("silent", (values,), frozenset())]
    found = cause_in_ranges([(calls, [FileTensor("t", values, 0, (-1e-9, 1e-9))])])
    assert found is not None
    assert "nothing came out of it on calibration samples" in found.said
    assert "keep_float: [silent]" in found.advice


def test_outliers_of_the_worst_sample_are_no_share_of_what_a_layer_gives() -> None:
    rng, ends = np.random.default_rng(0), (-3.0, 3.0)
    every = [rng.uniform(-2, 2, (1, 50)).astype(np.float32) for _ in range(9)]
    every[0][0, :2] = 4.0  # 4 % of this sample, 0.4 % of all; the file is far off in the others
    found_there = [np.clip(every[0], *ends), *[-values for values in every[1:]]]
    samples = [
        ([LayerCall("layer", (values,), frozenset())], [FileTensor("t", held, 0, ends)])
        for values, held in zip(every, found_there, strict=True)
    ]
    assert cause_in_ranges(samples) is None
    told = cause_in_ranges(samples[:1])
    assert told is not None
    assert "4.0% of what 'layer' gives" in told.said


@pytest.mark.parametrize(
    ("factor", "says", "not_said"),
    [
        (0.2, "more or better calibration samples", "no range"),
        (None, "no range and no constant explains it", "more or"),
    ],
)
def test_the_hint_of_a_failed_verification_follows_from_what_was_found(
    make_context: Callable[..., Any],
    make_split: Callable[..., Any],
    tiny_xception: Any,
    tiny_images: Any,
    export_artifact: Any,
    run: Any,
    factor: float | None,
    says: str,
    not_said: str,
) -> None:
    if factor is None:  # another function, in ranges that fit
        model = copy_model(tiny_xception)
        kernel, bias = model.get_layer("head").get_weights()
        model.get_layer("head").set_weights([kernel[:, ::-1], bias[::-1]])
        data = convert_tflite(model, "int8", calibration=tiny_images)
    else:
        data = convert_tflite(tiny_xception, "int8", calibration=tiny_images * np.float32(factor))
    context = make_context(VerifyConfig(), axis="tflite/int8")
    labels = np.asarray(tiny_xception(tiny_images, training=False)).argmax(axis=1)
    context.splits = {"test": make_split("test", tiny_images, labels)}
    export = export_artifact(context, ("tflite", "int8"), data)
    context.inputs = {"export": export, "reference": context.write_model(tiny_xception)}
    with pytest.raises(PostconditionError) as caught:
        run(context)
    assert says in str(caught.value.hint)
    assert not_said not in str(caught.value.hint)
    assert "report" not in str(caught.value.hint)


@pytest.mark.parametrize("fmt", ["tflite", "onnx"])
def test_calibration_that_was_unlike_the_test_samples_is_told_by_layer_and_share(
    fmt: str, verifying: Callable[..., Any], tiny_xception: Any, tiny_images: Any, run: Any
) -> None:
    loose = Tolerances(int8=Bounds(min_cosine=0.0, adversarial_min_cosine=None))
    told = {}
    for factor in (1.0, 0.6):
        samples = tiny_images * np.float32(factor)
        convert = convert_tflite if fmt == "tflite" else convert_onnx
        context = verifying((fmt, "int8"), convert(tiny_xception, "int8", calibration=samples), tolerances=loose)
        run(context)
        told[factor] = [warning for warning in context.warnings if "outside of their calibrated ranges" in warning]
    assert told[1.0] == []
    (warning,) = told[0.6]
    assert "of 'image'" in warning
    assert "calibration samples are unlike these" in warning
