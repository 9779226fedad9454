"""Test the ways of pruning Xception that users ask for: their recipes, from load to both runtimes, on a small Xception.

It has an eighth of the filters and one block of the middle flow instead of eight; `benchmarks/xception.py` uses the
whole network. One way goes through every format and scheme to the benchmark; the others each through one format to
`verify`, which fails if its file computes anything else. Both formats hold a network with fewer channels, and one with
zeros.
"""

import pytest
from xception_recipes import recipe_with_images

from stages.keras.tensorflow import import_keras

SIZE, NARROWER = 71, 8
LEFT_OUT = tuple(f"block{number}_" for number in range(6, 13))
SHORT = ("stages.finetune.epochs=1", "stages.benchmark.rounds=2", "stages.benchmark.seconds=0.02")


def small_xception():
    """Build Xception with ten classes, without blocks 6 to 12 and with an eighth of the filters; names are
    Xception's.
    """
    keras = import_keras()
    config = keras.applications.Xception(weights=None, input_shape=(SIZE, SIZE, 3), classes=10).get_config()
    kept, instead = [], {}
    for layer in config["layers"]:
        for node in layer["inbound_nodes"]:
            for source in node:
                source[0] = instead.get(source[0], source[0])
        sources = [source[0] for node in layer["inbound_nodes"] for source in node]
        if layer["name"].startswith(LEFT_OUT):
            continue
        if any(name.startswith(LEFT_OUT) for name in sources):  # the Add that ends such a block
            (instead[layer["name"]],) = (name for name in sources if not name.startswith(LEFT_OUT))
            continue
        if "filters" in layer["config"]:
            layer["config"]["filters"] //= NARROWER
        kept.append(layer)
    keras.utils.set_random_seed(7)
    return keras.Model.from_config(config | {"layers": kept})


def verified(target_format):
    """Return settings for one file, in float32."""
    return "stages.quantize.schemes=[float32]", f"stages.export.formats=[{target_format}]"


@pytest.fixture(scope="module")
def run(tmp_path_factory, secateur_here):
    """Run a recipe with more settings, all in one store; return what it printed as JSON."""
    folder = tmp_path_factory.mktemp("xception")
    small_xception().save(folder / "xception.keras")

    def run_recipe(name, *more, until="benchmark"):
        recipe = recipe_with_images(folder, name, SIZE, train=40, test=20)
        options = [part for setting in ("model=xception.keras", *SHORT, *more) for part in ("--set", setting)]
        code, manifest, err = secateur_here(
            "run", recipe, "--store", folder / "store", "--json", "--until", until, *options
        )
        assert code == 0, err
        return manifest

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
    assert report["zeros"] / report["weights"] == pytest.approx(0.5, abs=1e-5)
    assert max(report["layers"].values()) > 0.6
    assert report["gzip_bytes"] < 0.7 * report["weight_bytes"]
    assert facts(manifest, "strip", "keras-model")["sparsity"] > 0.49
    assert manifest["metrics"]["tflite/float32.max_abs_diff"] < 1e-4


def test_a_ratio_for_each_of_three_layers(run):
    manifest = run("layerwise", *verified("onnx"), until="verify")
    report, metrics = facts(manifest, "prune", "prune-report"), manifest["metrics"]
    assert report["channels_before"] - report["channels_after"] == round(0.2 * 4) + round(0.3 * 16) + round(0.4 * 32)
    assert metrics["prune.equivalence_error"] < 1e-4
    assert metrics["onnx/float32.max_abs_diff"] < 1e-4


def test_filters_below_a_threshold(run):
    """With random weights filters of the three layers score from 0.145 to 0.171, 0.023 to 0.049 and 0.017 to 0.028."""
    thresholds = {"block1_conv1": 0.15, "block2_sepconv1": 0.03, "block3_sepconv1": 0.02}
    settings = [f"stages.prune.thresholds.{name}={value}" for name, value in thresholds.items()]
    metrics = run("thresholds", *settings, *verified("tflite"), until="verify")["metrics"]
    assert 0 < metrics["prune.channels_removed"] < 0.05
    assert metrics["prune.equivalence_error"] < 1e-4
    assert metrics["tflite/float32.max_abs_diff"] < 1e-4


def test_a_tenth_of_the_weights_of_each_layer_at_random(run):
    manifest = run("unstructured", *verified("onnx"), until="verify")
    report = facts(manifest, "finetune", "sparsity-report")
    assert all(share == pytest.approx(0.1, abs=0.01) for share in report["layers"].values())
    assert len(report["layers"]) == 41 - 7 * 3
    assert manifest["metrics"]["finetune.sparsity"] == pytest.approx(0.1, abs=0.001)
    assert manifest["metrics"]["onnx/float32.max_abs_diff"] < 1e-4
