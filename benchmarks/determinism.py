"""Are the bytes of every export equal, in any process, in any order, after any other exports?

Two models (the demo's, and MobileNetV2 96×96 with random weights), every format in every scheme that it has, by the
engine with an empty store: in five processes, each with another hash seed, formats and schemes in the recipe's order
and in reverse, and in all but the first process after the exports of the other model. Exit status 1 unless all are
equal.

    python benchmarks/determinism.py [--processes 5]       # needs tflite-micro, ethos-u-vela and openvino
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

from export_speed import recipe
from fresh import in_fresh_process

from pipeline.records.schemes import Scheme
from pipeline.reports.command_lines import install
from pipeline.system.installed import package_version

MODELS = ("demo", "MobileNetV2")
FORMATS = ("tflite", "onnx", "openvino", "c", "vela")
NEEDED = ("tflite-micro", "ethos-u-vela", "openvino")
SCHEMES: tuple[str, ...] = get_args(Scheme)


def digests(model: str, folder: Path, *, backwards: bool) -> dict[str, list[str]]:
    """Return the digests of all files that a recipe exports, by `format/scheme`."""
    from pipeline.recipe.recipe import Recipe
    from pipeline.running.run import run

    step = -1 if backwards else 1
    path = recipe(folder, model, SCHEMES[::step])
    document = json.loads(path.read_text())
    document["stages"][2] = {"export": {"formats": FORMATS[::step], "unsupported": "skip"}}
    path.write_text(json.dumps(document))
    manifest = run(Recipe.load(path), folder / "store")
    exports = [entry for entry in manifest.stages if entry.stage == "export"]
    return {str(e.axis): [file.digest for output in e.outputs for file in output.files] for e in exports}


def one_process(number: int) -> dict[str, dict[str, list[str]]]:
    """Return all digests by model; odd processes reverse the order of models, formats and schemes."""
    found: dict[str, Any] = {}
    for model in MODELS[:: -1 if number % 2 else 1]:
        with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
            found[model] = digests(model, Path(folder), backwards=bool(number % 2))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(one_process(options.one)))
        return 0
    missing = [name for name in NEEDED if package_version(name) == "absent"]
    if missing:
        raise SystemExit(f"this needs {' and '.join(missing)}: {install(*missing)}")
    runs = []
    for number in range(options.processes):
        os.environ["PYTHONHASHSEED"] = str(number)
        runs.append(in_fresh_process(__file__, "--one", str(number)))
        print(f"process {number + 1} of {options.processes}, {'backwards' if number % 2 else 'forwards'}", flush=True)
    different = 0
    for model in MODELS:
        for axis in sorted(runs[0][model]):
            seen = {json.dumps(found[model][axis]) for found in runs}
            different += len(seen) > 1
            print(f"{model:<13} {axis:<15} {'equal' if len(seen) == 1 else f'{len(seen)} different'}")
    print(f"{different} of {sum(len(found) for found in runs[0].values())} exports differ between processes")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
