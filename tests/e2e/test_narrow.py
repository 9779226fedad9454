"""Run a recipe beside which a uniformly narrower network is trained from scratch."""

import pytest

from pipeline import Recipe, run
from pipeline.reports.table import closing, rows

DELIVERED = """\
  - quantize: {schemes: [float32, int8]}
  - export: {formats: [tflite, onnx]}
  - verify
  - benchmark: {rounds: 2, seconds: 0.02}
"""
CHANGES = (
    ("control: true", "control: {narrow: true, source_epochs: 1}"),
    (DELIVERED, ""),
    ('"tflite/int8.accuracy", min: 0.1', '"narrow.macs_ratio", max: 0.9'),
)


def test_a_narrower_network_stands_in_the_table_with_the_pruned_one_s_macs(recipe, tmp_path):
    loaded = Recipe.load(recipe(epochs=2, replace=CHANGES))
    manifest = run(loaded, tmp_path / "store")
    metrics = manifest.metrics
    assert metrics["narrow.macs"] == pytest.approx(metrics["prune.macs"], rel=0.05)
    assert metrics["narrow.epochs"] == metrics["finetune.epochs"] + 1 == 3
    assert 0 <= metrics["narrow.accuracy"] <= 1
    assert metrics["narrow.accuracy_drop"] == pytest.approx(metrics["source.accuracy"] - metrics["narrow.accuracy"])
    assert 0 < metrics["narrow.width"] < 1
    assert [row.name for row in rows(manifest)] == ["source", "prune", "finetune", "control", "narrow", "strip"]
    text = closing(manifest)
    (line,) = (line for line in text.splitlines() if line.startswith("narrow"))
    assert f"{metrics['narrow.macs_ratio']:.2f} × MACs" in line
    assert "✔ narrow.macs_ratio" in text

    again = run(loaded, tmp_path / "store")
    assert {entry.status for entry in again.stages} == {"hit"}
    assert again.metrics == metrics
