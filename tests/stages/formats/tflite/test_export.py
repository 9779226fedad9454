"""Export TFLite files as the stage does: converted in the child, stored by this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.records.schemes import Quantization
from stages.formats.tflite.export import exported
from stages.formats.tflite.facts import TFLiteFacts
from stages.formats.tflite.session import load_tflite
from stages.keras.tensorflow import import_keras


def test_the_artifact_is_one_file_with_its_facts_and_its_difference_from_keras(
    exporting: Callable[..., Any], tiny_xception: Any, tiny_images: Any
) -> None:
    context = exporting("tflite", "float32")
    result = exported(context, context.inputs["model"].facts)
    (artifact,) = result.outputs
    facts = artifact.facts
    assert isinstance(facts, TFLiteFacts)
    assert (artifact.names, facts.scheme, facts.keeps_state) == (("model.tflite",), "float32", False)
    assert facts.operators["CONV_2D"] == 2
    data = context.stored(artifact.files[0]).read_bytes()
    assert result.metrics["size_bytes"] == len(data)
    assert 0 <= result.metrics["export_difference"] < 1e-4
    expected = np.asarray(tiny_xception(tiny_images[:4], training=False))
    np.testing.assert_allclose(load_tflite(data).run({"image": tiny_images[:4]})["head"], expected, atol=1e-5)
    assert context.inputs["model"].facts.model_digest.encode() in data
    assert context.warnings == []


def test_a_file_that_keeps_a_state_is_told_with_what_clears_it(exporting: Callable[..., Any]) -> None:
    keras = import_keras()
    steps = keras.Input((5, 3), name="steps")
    model = keras.Model(steps, keras.layers.Dense(2)(keras.layers.LSTM(4)(steps)))
    context = exporting("tflite", "float32", model, recurrent="fused")
    result = exported(context, context.inputs["model"].facts)
    assert isinstance(result.outputs[0].facts, TFLiteFacts)
    assert result.outputs[0].facts.keeps_state
    (warning,) = context.warnings
    assert "keeps its LSTMs' state" in warning
    assert "recurrent: unrolled" in warning


def test_the_ranges_that_auto_took_are_among_the_facts_and_in_a_note(exporting: Callable[..., Any], spiky: Any) -> None:
    model, samples = spiky(spikes=3, read=False)
    context = exporting("tflite", Quantization(scheme="int8", calibration="auto"), model, samples["image"])
    facts = exported(context, context.inputs["model"].facts).outputs[0].facts
    assert isinstance(facts, TFLiteFacts)
    assert facts.ranges is not None
    assert facts.ranges.method == "percentile"
    (note,) = facts.notes
    assert note.startswith("calibration auto took percentile: ")
    assert f"mse {facts.ranges.errors['mse']:.2e}" in note
    assert "on 16 held-out samples" in note
