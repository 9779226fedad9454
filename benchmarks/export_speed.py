"""Is ONNX export faster and smaller than tf2onnx's own, and does TFLite export share between schemes?

First `convert_onnx` is compared with `tf2onnx.convert.from_keras` on four networks of tf_keras.applications (random
weights, one seed, randomized statistics): each conversion in a fresh process, the two taking turns. `s` is the
conversion alone, the minimum of the rounds; `MB` the peak resident memory of a process (VmHWM), including TensorFlow
and the model. Then both files run in ONNX Runtime on the same inputs; `differ` is the largest difference relative to
the largest output.

Then the export actions of a recipe, each time in a separate process: float32, float16, dynamic and int8 TFLite together
compared with int8 alone.

Exit status 1 unless Xception is at least 3 times faster, no graph has more nodes, outputs agree within 1e-5, no peak is
above 0.7 of tf2onnx's, and the four TFLite schemes cost at most 2.5 times int8 alone.

    python benchmarks/export_speed.py [--rounds 3] [--models Xception …] [--skip-onnx]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fresh import ROOT, in_fresh_process

MODELS = ("Xception", "ResNet50", "MobileNetV2", "EfficientNetB0")
WAYS = ("tf2onnx", "secateur")
SIDE = {"Xception": 299}
OPSET, SEED = 17, 1
FASTER, SMALLER, NEAR, TOGETHER = 3.0, 0.7, 1e-5, 2.5
SCHEMES = ("float32", "float16", "dynamic", "int8")


def build(name: str, side: int | None = None) -> Any:
    from applications import shake

    from stages.keras.tensorflow import import_keras

    keras, side = import_keras(), side or SIDE.get(name, 224)
    keras.utils.set_random_seed(SEED)
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classifier_activation=None)
    shake(model)
    return model


def convert(name: str, way: str, path: Path) -> dict[str, float]:
    """Convert once in this process: return seconds, and the peak of the process in megabytes."""
    from footprint import resident_mb

    model = build(name)
    began = time.perf_counter()
    if way == "tf2onnx":
        import tf2onnx

        graph, _ = tf2onnx.convert.from_keras(model, opset=OPSET)
        data = graph.SerializeToString()
    else:
        from stages.formats.onnx.convert import convert_onnx

        data = convert_onnx(model, "float32", OPSET)
    seconds = time.perf_counter() - began
    path.write_bytes(data)
    return {"s": seconds, "mb": resident_mb("VmHWM")}


def compare(paths: dict[str, Path]) -> dict[str, Any]:
    """Return nodes and Transposes of both files, and how much their outputs differ."""
    import numpy as np
    import onnx

    from stages.formats.onnx.session import load_onnx

    found: dict[str, Any] = {}
    outputs = []
    for way, path in paths.items():
        graph = onnx.load(path).graph
        found[way] = (len(graph.node), sum(node.op_type == "Transpose" for node in graph.node))
        loaded = load_onnx(path.read_bytes())
        shape = [size or 2 for size in loaded.inputs[0].shape]
        given = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        (values,) = loaded.run({loaded.inputs[0].name: given}).values()
        outputs.append(values)
    found["differ"] = float(np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[0]).max())
    return found


def onnx_against_tf2onnx(models: list[str], rounds: int) -> bool:
    print(
        f"{'ONNX export':<16}{'s':>16}{'faster':>8}{'MB':>14}{'ratio':>7}{'nodes':>11}{'Transposes':>12}{'differ':>9}"
    )
    good = True
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        paths = {way: Path(folder) / way for way in WAYS}
        for model in models:
            taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for turn in range(rounds):
                for way in WAYS[:: 1 if turn % 2 == 0 else -1]:
                    taken[way].append(in_fresh_process(__file__, "--one", model, way, str(paths[way])))
            seconds = {way: min(one["s"] for one in taken[way]) for way in WAYS}
            peak = {way: max(one["mb"] for one in taken[way]) for way in WAYS}
            seen = in_fresh_process(__file__, "--compare", *map(str, paths.values()))
            faster, ratio = seconds["tf2onnx"] / seconds["secateur"], peak["secateur"] / peak["tf2onnx"]
            (nodes, transposes), (own_nodes, own_transposes) = seen["tf2onnx"], seen["secateur"]
            print(
                f"{model:<16}{seconds['tf2onnx']:>7.1f} → {seconds['secateur']:>5.1f}{faster:>7.1f}×"
                f"{peak['tf2onnx']:>7.0f} → {peak['secateur']:>4.0f}{ratio:>7.2f}{nodes:>5} → {own_nodes:>3}"
                f"{transposes:>7} → {own_transposes:>2}{seen['differ']:>9.0e}",
                flush=True,
            )
            good = good and own_nodes <= nodes and ratio <= SMALLER and seen["differ"] <= NEAR
            good = good and (model != "Xception" or faster >= FASTER)
    return good


def recipe(folder: Path, model: str, schemes: tuple[str, ...]) -> Path:
    """Write a recipe that only quantizes and exports."""
    import numpy as np

    data: dict[str, Any] = {"source": "npz", "preprocess": {"mode": "tf"}, "calibration": {"from": "train", "take": 64}}
    if model == "demo":
        described = ROOT / "configs" / "assets" / "mini_xception.keras"
        data |= {"path": str(ROOT / "configs" / "assets" / "fashion_mnist.npz")}
        data |= {"preprocess": {"scale": 1 / 127.5, "offset": -1.0}, "calibration": {"from": "train", "take": 256}}
    else:
        described = folder / "model.keras"
        build(model, side=96).save(described)
        images = np.random.default_rng(0).integers(0, 256, (64, 96, 96, 3), dtype=np.uint8)
        np.savez(folder / "images.npz", x_train=images, y_train=np.arange(64))
        data |= {"path": str(folder / "images.npz"), "validation": "train"}
    stages = ["load", {"quantize": {"schemes": schemes}}, {"export": {"formats": ["tflite"]}}]
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"name": "exports", "model": str(described), "data": data, "stages": stages}))
    return path


def export_seconds(model: str, schemes: str) -> float:
    """Return the total time of such a recipe's export actions in this process."""
    from pipeline.recipe.recipe import Recipe
    from pipeline.running.run import run

    with tempfile.TemporaryDirectory(prefix="secateur-") as name:
        folder = Path(name)
        manifest = run(Recipe.load(recipe(folder, model, tuple(schemes.split(",")))), folder / "store")
    return sum(entry.wall_s for entry in manifest.stages if entry.stage == "export")


def tflite_together(rounds: int) -> bool:
    print(f"\n{'TFLite export, s':<18}{'int8 alone':>11}{'all four':>10}{'ratio':>7}")
    good = True
    for model in ("demo", "MobileNetV2"):
        alone, together = [], []
        for _ in range(rounds):
            alone.append(in_fresh_process(__file__, "--schemes", model, "int8"))
            together.append(in_fresh_process(__file__, "--schemes", model, ",".join(SCHEMES)))
        ratio = min(together) / min(alone)
        print(f"{model:<18}{min(alone):>11.2f}{min(together):>10.2f}{ratio:>7.2f}", flush=True)
        good = good and ratio <= TOGETHER
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--skip-onnx", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--compare", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--schemes", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        model, way, path = options.one
        print(json.dumps(convert(model, way, Path(path))))
    elif options.compare:
        print(json.dumps(compare(dict(zip(WAYS, options.compare, strict=True)))))
    elif options.schemes:
        print(json.dumps(export_seconds(*options.schemes)))
    else:
        faster = options.skip_onnx or onnx_against_tf2onnx(options.models, options.rounds)
        return 0 if tflite_together(options.rounds) and faster else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
