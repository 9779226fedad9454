"""Measure how much longer a front of ten budgets takes than one prune and export: MobileNetV2, 512 images, no training.

* One: `secateur run` of the recipe that `optimize` writes, up to `export`; its search of distributions is its own.
* Ten: `secateur optimize --no-training --trials 4`: a recipe for each budget, with what one search foresees of it;
  four are pruned and re-fitted where the border of the goal is, and two of these exported, verified and measured.

Each runs in a process of its own with an empty store. Weights are random; so that there is something to keep, branches
that are added to others are weakened, and the head is fitted to ten of its 1,000 classes, in closed form. Images are
CIFAR-10's, enlarged.

Exit status 1, and MISSED, if ten take more than 3 times as long as one, or are fewer than ten.

    python benchmarks/ten_budgets.py --data DIR [--side 96] [--max-drop 0.2] [--work DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fresh import ROOT
from public_models import cifar10
from resumable import DEFAULT_WORK, Results

IMAGES, TEST_IMAGES, THREADS = 512, 200, 2
BUDGETS, TRIALS, WANTED = 10, 4, 3.0
BRANCH = 0.1  # of a residual branch's own scale
SURE, RIDGE = 10.0, 30.0  # the score of the right class; the ridge of its fit, relative to the variance of features
SETTLED = 128  # images by which the statistics of batch normalization are set


def write_inputs(data: Path, side: int, folder: Path) -> None:
    """Write `mobilenet.keras` and `images.npz` (x_train, x_test, uint8, without labels)."""
    import numpy as np

    from stages.keras.tensorflow import import_tensorflow, tensorflow_action

    with tensorflow_action(0, THREADS) as keras:
        resize = import_tensorflow().image.resize
        (x, y), (x_test, _) = cifar10(data, "train"), cifar10(data, "test")
        large = {
            name: np.clip(resize(small, (side, side), "bicubic").numpy().round(), 0, 255).astype(np.uint8)
            for name, small in (("x_train", x[:IMAGES]), ("x_test", x_test[:TEST_IMAGES]))
        }
        np.savez(folder / "images.npz", **large)
        network(keras, side, large["x_train"] / np.float32(127.5) - 1, y[:IMAGES]).save(folder / "mobilenet.keras")


def network(keras: Any, side: int, images: Any, classes: Any) -> Any:
    """Return MobileNetV2 with random weights, its head fitted to the classes (N,) of images in -1…1."""
    import numpy as np

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None, input_shape=(side, side, 3))
    added = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    for branch in (model.get_layer(layer.name.replace("_add", "_project_BN")) for layer in added):
        branch.gamma.assign(branch.gamma * BRANCH)
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in normalizations:
        layer.momentum = 0.0  # statistics become those of one batch
    model(images[:SETTLED], training=True)
    for layer in normalizations:
        layer.momentum = 0.999
    head = model.layers[-1]
    features = keras.Model(model.input, head.input).predict(images, verbose=0).astype(np.float64)
    centered, wanted = features - features.mean(axis=0), SURE * np.eye(head.units)[classes]
    square = centered.T @ centered + RIDGE * len(images) * features.var(axis=0).mean() * np.eye(features.shape[1])
    kernel = np.linalg.solve(square, centered.T @ (wanted - wanted.mean(axis=0)))
    head.set_weights([kernel, wanted.mean(axis=0) - features.mean(axis=0) @ kernel])
    return model


def secateur(folder: Path, store: str, *arguments: str) -> tuple[float, float, str]:
    """Return the seconds that a command takes with a store of its own, those of processors, and what it printed."""
    environment = os.environ | {"SECATEUR_STORE": str(folder / store), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [str(Path(sys.executable).with_name("secateur")), *arguments]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1, 5):  # a goal that is not reached is an answer as well
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def measured(data: Path, side: int, max_drop: float) -> dict[str, Any]:
    """Return the seconds of both, and the answer of `optimize`."""
    with tempfile.TemporaryDirectory(prefix="ten-budgets-") as name:
        folder = Path(name)
        write_inputs(data, side, folder)
        asked = ("mobilenet.keras", "--data", "images.npz", "--no-training", "--max-drop", f"{max_drop:g}")
        limits = ("--trials", f"{TRIALS}", "--minutes", "120")
        ten_s, ten_cpu_s, told = secateur(folder, "ten", "optimize", *asked, *limits, "--json")
        recipe = str(Path("mobilenet-front") / "recipe.yaml")
        one_s, one_cpu_s, _ = secateur(folder, "one", "run", recipe, "--until", "export")
    times = {"one_s": one_s, "ten_s": ten_s, "one_cpu_s": one_cpu_s, "ten_cpu_s": ten_cpu_s}
    return times | {"answer": json.loads(told)}


def table(answer: Mapping[str, Any]) -> list[str]:
    """Return a line for each budget, with the cost of those that were measured."""
    points = {point["letter"]: point for point in answer["points"]}
    head = f"{'budget':>12} {'left':>6} {'error':>7} {'same class':>10} {'accuracy':>9}"
    lines = [f"{head}  {answer['cost']}, against the source's"]
    for budget in answer["budgets"]:
        one = budget["foreseen"]
        alike, accuracy = ("" if share is None else f"{share:.1%}" for share in (one["agreement"], budget["accuracy"]))
        figures = f"{one['name']:>12} {one['share']:6.3f} {one['error']:7.3f} {alike:>10} {accuracy:>9}"
        lines.append(f"{figures}  {cost_of(points[budget['letter']]) if budget['letter'] else budget['level'] or ''}")
    return lines


def cost_of(point: Mapping[str, Any]) -> str:
    test = point["test"]
    if test is None:
        return "its run failed"
    against = "" if test["against"] is None else f", {test['against']['ratio']:.2f}×"
    return f"measured: {test['cost']:.2f}{against} ({point['axis']})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--side", type=int, default=224, help="of the images; 96 to try it")
    parser.add_argument("--max-drop", type=float, default=0.2)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options = parser.parse_args()
    results = Results(options.work, Path(__file__), ROOT / "benchmarks" / "public_models.py")
    case = {"side": options.side, "max_drop": options.max_drop}
    found = results.get(case)
    if found is None:
        found = measured(options.data, options.side, options.max_drop)
        results.add(case, found)
    answer, ratio = found["answer"], found["ten_s"] / found["one_s"]
    print("\n".join(table(answer)))
    print(answer["verdict"])
    met = ratio <= WANTED and len(answer["budgets"]) >= BUDGETS and bool(answer["points"])
    what = f"{len(answer['budgets'])} budgets of MobileNetV2-{options.side}, {len(answer['points'])} measured"
    times = f"{found['ten_s']:.0f} s, one prune + export {found['one_s']:.0f} s"
    print(f"seconds of processors: {found['ten_cpu_s']:.0f} and {found['one_cpu_s']:.0f}")
    print(f"{what}: {times}: {ratio:.2f}×, wanted ≤ {WANTED:g}×: {'ok' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
