"""Measure the five ways of pruning Xception, `configs/xception-*.yaml`, at 299×299: time and memory of each action.

Random weights and synthetic images (`xception_recipes.py`), one epoch of a few steps, every stage to TFLite and ONNX in
float32 and int8. Each recipe runs in a separate process; they share a store, so common actions (load, baselines) are
done by the first and hits for the others. Columns are those of `footprint.py`. Linux only.

    python benchmarks/xception.py [--only global]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from footprint import Meter
from xception_recipes import NAMES, recipe_with_images, settings

from pipeline.recipe.recipe import Recipe
from pipeline.running.run import run

SIDE, TRAIN, TEST = 299, 40, 20
SHORT = (
    *("stages.finetune.epochs=1", "stages.benchmark.rounds=2", "stages.benchmark.seconds=0.05"),
    # Little was learned, so outputs lie close together: parity in 8 bits says nothing about such a network.
    "stages.verify.tolerances.int8.min_cosine=-1.0",
)


def measure(name: str, folder: Path) -> None:
    """Measure one recipe in this process."""
    recipe = recipe_with_images(folder, name, SIDE, TRAIN, TEST)
    meter = Meter(folder / "store", folder / "store")
    manifest = run(Recipe.load(recipe, (*settings(name, SIDE), *SHORT)), folder / "store", listener=meter)
    meter.end()
    for line in described(manifest.metrics):
        print(line, flush=True)


def described(metrics: Mapping[str, float]) -> Iterator[str]:
    """Yield the sizes of the models and files, and the latencies."""
    for model in ("source", "prune", "finetune", "strip"):
        params, macs = metrics[f"{model}.params"] / 1e6, metrics[f"{model}.macs"] / 1e9
        sparsity = metrics.get(f"{model}.sparsity")
        zeros = "" if sparsity is None else f", {sparsity:.1%} of the weights are zero"
        yield f"{model:10} {params:6.2f} M params {macs:6.2f} G MACs{zeros}"
    for file in ("tflite/float32", "tflite/int8", "onnx/float32", "onnx/int8"):
        size, p50 = metrics[f"{file}.size_bytes"] / 1e6, metrics[f"{file}@cpu.latency_p50_ms"]
        yield f"{file:15} {size:6.1f} MB  p50 {p50:7.1f} ms, {metrics[f'{file}@cpu.latency_ratio']:.2f} of the source's"
    yield ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)  # the folder, in the process that measures
    options = parser.parse_args()
    if options.within is not None:
        measure(options.only, options.within)
        return 0
    with tempfile.TemporaryDirectory(prefix="secateur-xception-") as folder:
        for name in [options.only] if options.only else NAMES:
            print(f"== xception-{name}", flush=True)
            command = [sys.executable, __file__, "--only", name, "--within", folder]
            status = subprocess.run(command, check=False).returncode
            if status != 0:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
