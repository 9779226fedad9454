"""Test how an ONNX file is made and run before it counts as exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.conversion import job_of
from stages.formats.format import LoadedModel
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.export import CONVERTER, _converted_and_run, _tell_reading, exported
from stages.formats.onnx.facts import ONNXFacts
from stages.formats.registry import load_exported
from stages.keras.tensorflow import import_keras


def test_small_float32_files_are_read_by_the_standard_s_evaluator_as_well(
    exporting: Callable[..., Any], tiny_xception: Any, tiny_images: Any
) -> None:
    """Given that ONNX Runtime computes twice as much, it warns; it ignores large models and other schemes."""
    data = convert_onnx(tiny_xception, "float32")
    right = load_exported("onnx-model", data)
    wrong = LoadedModel(right.inputs, right.outputs, lambda given: {k: v * 2 for k, v in right.run(given).items()})
    context = exporting("onnx", "float32")
    job = job_of(context, CONVERTER)
    facts = job.quantized
    for macs, loaded, count in ((facts.macs, right, 0), (facts.macs, wrong, 1), (20_000_000, wrong, 1)):
        _tell_reading(context, replace(job, quantized=facts.model_copy(update={"macs": macs})), data, loaded)
        assert len(context.warnings) == count
    assert "onnx's own evaluator differs from ONNX Runtime by 5.0e-01" in context.warnings[0]
    context = exporting("onnx", "int8")
    _tell_reading(context, job_of(context, CONVERTER), data, wrong)
    assert context.warnings == []


@pytest.mark.parametrize("calibration", [None, "auto"])
def test_what_onnx_runtime_refuses_by_channel_is_quantized_by_tensor(
    calibration: Any, exporting: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For weights with three dimensions this is known beforehand; here it is found when the file runs."""
    monkeypatch.setattr("stages.formats.onnx.overrides._products", lambda *_: iter(()))
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 3), name="x")
    model = keras.Model(inputs, keras.layers.LocallyConnected1D(2, 3, name="y")(inputs))
    samples = np.random.default_rng(0).standard_normal((16, 8, 3)).astype(np.float32)
    context = exporting("onnx", Quantization(scheme="int8", calibration=calibration), model, samples)
    job = job_of(context, CONVERTER)
    data, _, difference = _converted_and_run(context, job, job.quantized.quantization)
    assert difference < 0.05
    (warning,) = context.warnings
    assert warning.startswith("weights have one scale each instead of one a channel, which ONNX Runtime refuses here (")
    outputs = load_exported("onnx-model", data).run({"x": samples})["y"]
    np.testing.assert_allclose(outputs, np.asarray(model(samples)), atol=0.1)


def test_the_ranges_that_auto_took_are_among_the_facts_and_in_a_note(exporting: Callable[..., Any], spiky: Any) -> None:
    model, samples = spiky(spikes=3, read=False)
    context = exporting("onnx", Quantization(scheme="int8", calibration="auto"), model, samples["image"])
    facts = exported(context, context.inputs["model"].facts).outputs[0].facts
    assert isinstance(facts, ONNXFacts)
    assert facts.ranges is not None
    assert facts.ranges.method == "percentile"
    assert facts.notes == (facts.ranges.said,)
