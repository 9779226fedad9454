"""Count whether int8 is slower than float32 in LiteRT: the demo's network and MLPerf Tiny's four, on three cores.

Each network is exported in float32, in int8, and in int8 with `faster_on` set to the core, and counted on the emulated
core. Counts don't depend on weights: the demo's network is pruned without training, and random samples calibrate.
`--before DIR` adds a column for the int8 files of another checkout. Exit status 1 unless int8 with `faster_on` takes at
most as many instructions as float32 in every case, and at most 0.8 of them in nine of fifteen. Results are kept as they
come: a killed run resumes.

    secateur target setup cortex-a53; secateur target setup cortex-a72; secateur target setup cortex-a76
    python benchmarks/never_slower.py --data DIR [--cores cortex-a72 …] [--before DIR] [--work DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from fresh import ROOT, with_modules_of
from instructions import CORES
from public_models import TinyModel, tiny_model_file
from resumable import DEFAULT_WORK, Results

DEMO = "demo"
NETWORKS = (DEMO, *get_args(TinyModel))
MOST, FAST, FAST_CASES = 1.0, 0.8, 9
SAMPLES = 64
RECIPE: Mapping[str, Any] = {
    "name": "never-slower",
    "seed": 7,
    "model": "model",
    "data": {"source": "npz", "path": "data.npz", "calibration": {"from": "train", "take": SAMPLES}},
}
PRUNE = {"prune": {"criterion": "l2", "macs": 0.5, "round_to": 8}}


def one(data: Path, network: str, core: str, schemes: str) -> dict[str, float]:
    """Return the instructions of a network's TFLite files on a core, by the schemes' names; run in a fresh process.

    `schemes` is the recipe's list, as JSON.
    """
    from pipeline import Recipe, run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_inputs(data, network, folder)
        stages = [
            "load",
            *([PRUNE] if network == DEMO else []),
            "strip",
            {"quantize": {"schemes": json.loads(schemes)}},
            {"export": {"formats": ["tflite"]}},
            {"benchmark": {"targets": [core]}},
        ]
        path = folder / "recipe.yaml"
        path.write_text(json.dumps({**RECIPE, "model": _model_name(network), "stages": stages}))
        manifest = run(Recipe.load(path), folder / "store")
    ends = f"@{core}.instructions"
    return {
        key.removeprefix("tflite/").removesuffix(ends): value
        for key, value in manifest.metrics.items()
        if key.endswith(ends)
    }


def _model_name(network: str) -> str:
    return "model.keras" if network == DEMO else "model.h5"


def _write_inputs(data: Path, network: str, folder: Path) -> None:
    """Write the model, and random samples of its input's shape, to where the recipe reads them."""
    import numpy as np

    from stages.keras.normal_form import random_inputs
    from stages.load import load_model

    file = folder / _model_name(network)
    demo = ROOT / "configs" / "assets" / "mini_xception.keras"
    file.write_bytes(demo.read_bytes() if network == DEMO else tiny_model_file(data, network, "h5"))  # type: ignore[arg-type]
    (samples,) = random_inputs(load_model(file).model, samples=SAMPLES, seed=0)
    np.savez(folder / "data.npz", x_train=samples)


def counted(data: Path, network: str, core: str, schemes: list[Any], tree: Path) -> dict[str, float]:
    """Return what `one` does with the modules of a checkout."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", str(data), network, core, json.dumps(schemes)]
    environment = with_modules_of(tree) | {"PYTHONPATH": os.pathsep.join([str(tree), str(Path(__file__).parent)])}
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{network} on {core} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def rows(options: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield network, core and ratios to float32: `int8`, `fast`, and `before` where it is asked for."""
    results = Results(options.work, Path(__file__))
    for network in NETWORKS:
        for core in options.cores:
            case = {"network": network, "core": core}
            found = results.get(case)
            if found is None:
                schemes = ["float32", "int8", {"fast": {"scheme": "int8", "faster_on": core}}]
                found = counted(options.data, network, core, schemes, ROOT)
                results.add(case, found)
            if options.before:
                earlier = {**case, "before": _commit(options.before)}
                old = results.get(earlier)
                if old is None:
                    old = counted(options.data, network, core, ["int8"], options.before.resolve())
                    results.add(earlier, old)
                found = {**found, "before": old["int8"]}
            yield network, core, {name: found[name] / found["float32"] for name in found}


def _commit(tree: Path) -> str:
    return subprocess.run(
        ["git", "-C", str(tree), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        data, network, core, schemes = sys.argv[2:]
        print(json.dumps(one(Path(data), network, core, schemes)))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cores", nargs="+", default=list(CORES), choices=CORES)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options = parser.parse_args()
    print(f"{'instructions / float32':<24}{'core':<12}{'before':>8}{'int8':>8}{'faster_on':>11}")
    fast, slow, cases = 0, 0, 0
    for network, core, ratios in rows(options):
        cases, fast, slow = cases + 1, fast + (ratios["fast"] <= FAST), slow + (ratios["fast"] > MOST)
        before = f"{ratios['before']:.3f}" if "before" in ratios else "-"
        verdict = "MISSED" if ratios["fast"] > MOST else "ok"
        print(f"{network:<24}{core:<12}{before:>8}{ratios['int8']:>8.3f}{ratios['fast']:>11.3f}  {verdict}", flush=True)
    whole = cases == len(NETWORKS) * len(CORES)  # the second bound is on all cores together
    enough = fast >= FAST_CASES or not whole
    print(f"{cases - slow} of {cases} at most {MOST:g}: {'MISSED' if slow else 'ok'}")
    print(
        f"{fast} of {cases} at most {FAST:g}: {('ok' if enough else 'MISSED') if whole else 'judged on all cores only'}"
    )
    return 1 if slow or not enough else 0


if __name__ == "__main__":
    sys.exit(main())
