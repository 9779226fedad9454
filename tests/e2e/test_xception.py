"""The ways of pruning Xception that users ask for: their recipes, from load to both runtimes, on 71×71, its least size.

One way goes through every format and scheme to the benchmark; the others each through one format to `verify`, which
fails where its file computes anything else. Both formats hold a network with fewer channels, and one with zeros.
"""

import json
import os
import subprocess
import sys

import pytest
from xception_recipes import recipe_with_images, settings

SIZE = 71
SHORT = ("stages.finetune.epochs=1", "stages.benchmark.rounds=2", "stages.benchmark.seconds=0.02")


def verified(target_format):
    """Settings for one file, in float32."""
    return "stages.quantize.schemes=[float32]", f"stages.export.formats=[{target_format}]"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a recipe with more settings, all in one store; what it printed as JSON."""
    folder = tmp_path_factory.mktemp("xception")

    def run_recipe(name, *more, until="benchmark"):
        recipe = recipe_with_images(folder, name, SIZE, train=40, test=20)
        options = [part for setting in (*settings(name, SIZE), *SHORT, *more) for part in ("--set", setting)]
        command = [sys.executable, "-m", "pipeline", "run", str(recipe), "--json", "--until", until, *options]
        environment = {**os.environ, "SECATEUR_STORE": str(folder / "store")}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run_recipe


def facts(manifest, stage, kind):
    entry = next(entry for entry in manifest["stages"] if entry["id"] == stage)
    return next(output["facts"] for output in entry["outputs"] if output["kind"] == kind)


def test_half_of_all_filters_by_one_ranking(run):
    manifest = run("global")
    metrics = manifest["metrics"]
    assert metrics["prune.channels_removed"] == pytest.approx(0.5, abs=0.01)
    assert metrics["prune.equivalence_error"] < 1e-4
    assert metrics["prune.macs"] < 0.4 * metrics["source.macs"]
    for name in ("tflite/float32", "tflite/int8", "onnx/float32", "onnx/int8"):
        assert metrics[f"{name}.size_bytes"] > 0
        assert metrics[f"{name}@cpu.latency_p50_ms"] > 0
    for name in ("tflite/float32", "onnx/float32"):
        assert metrics[f"{name}.max_abs_diff"] < 1e-4


def test_half_of_all_weights_by_one_ranking(run):
    manifest = run("global-weights", *verified("tflite"), until="verify")
    report = facts(manifest, "finetune", "sparsity-report")
    assert report["zeros"] / report["weights"] == pytest.approx(0.5, abs=1e-6)
    assert max(report["layers"].values()) > 0.6
    assert report["gzip_bytes"] < 0.7 * report["weight_bytes"]
    assert facts(manifest, "strip", "keras-model")["sparsity"] > 0.49
    assert manifest["metrics"]["tflite/float32.max_abs_diff"] < 1e-4


def test_a_ratio_for_each_of_three_layers(run):
    manifest = run("layerwise", *verified("onnx"), until="verify")
    report, metrics = facts(manifest, "prune", "prune-report"), manifest["metrics"]
    assert report["channels_before"] - report["channels_after"] == round(0.2 * 32) + round(0.3 * 128) + round(0.4 * 256)
    assert metrics["prune.equivalence_error"] < 1e-4
    assert metrics["onnx/float32.max_abs_diff"] < 1e-4


def test_filters_below_a_threshold(run):
    metrics = run("thresholds", *verified("tflite"), until="verify")["metrics"]
    assert 0 < metrics["prune.channels_removed"] < 0.05
    assert metrics["prune.equivalence_error"] < 1e-4
    assert metrics["tflite/float32.max_abs_diff"] < 1e-4


def test_a_tenth_of_the_weights_of_each_layer_at_random(run):
    manifest = run("unstructured", *verified("onnx"), until="verify")
    report = facts(manifest, "finetune", "sparsity-report")
    assert all(share == pytest.approx(0.1, abs=0.01) for share in report["layers"].values())
    assert len(report["layers"]) == 41
    assert manifest["metrics"]["finetune.sparsity"] == pytest.approx(0.1, abs=0.001)
    assert manifest["metrics"]["onnx/float32.max_abs_diff"] < 1e-4
