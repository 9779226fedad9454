"""Run a recipe whose int8 file is slower than float32 by construction: the report names the operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline import Recipe, run
from pipeline.records.speed import slower_files
from pipeline.reports.slower import slower_than_float
from stages.keras.tensorflow import import_keras

RECIPE = """\
name: slower
model: model.keras
data: {source: npz, path: data.npz}
stages: [load, quantize: {schemes: [float32, int8]}, export: {formats: [tflite]}, benchmark: {rounds: 3, seconds: 0.02}]
"""


def test_the_operator_that_makes_int8_slower_is_named_and_a_second_run_measures_nothing(tmp_path: Path) -> None:
    """XNNPACK computes softmax in float32 only; LiteRT's int8 one takes several times as long."""
    keras = import_keras()
    image = keras.Input((64, 64, 16), name="image")
    keras.Model(image, keras.layers.Softmax(name="shares")(image)).save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x_train=np.random.default_rng(0).normal(size=(8, 64, 64, 16)).astype(np.float32))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    manifest = run(Recipe.load(tmp_path / "recipe.yaml"), tmp_path / "store")
    assert manifest.stages[-1].id == "benchmark:tflite/int8@cpu:operators"
    (found,) = slower_files(manifest.stages)
    assert found.losses is not None
    assert [loss.kind for loss in found.losses] == ["SOFTMAX"]
    assert found.losses[0].cost > 1.15 * found.losses[0].float_cost
    (note,) = slower_than_float(manifest)
    assert "SOFTMAX" in note
    assert "faster_on: cpu" in note
    again = run(Recipe.load(tmp_path / "recipe.yaml"), tmp_path / "store")
    assert {entry.status for entry in again.stages} == {"hit"}
    assert again.metrics == manifest.metrics
