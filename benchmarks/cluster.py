"""Scale a sweep out: do three Dask workers do 24 chains with no action twice, faster than one, and survive a kill?

The demo's network with one short training in each chain: 4 ratios × 3 criteria × 2 learning rates, one thread for
TensorFlow. The sweep runs on one worker, on three, and on three of which one is killed at work, each with an empty
store; times include the start of the workers. Nothing is measured on a device: that is done by one worker alone.
Exit status 1, and MISSED, unless no action is computed twice, three workers are at least 1.7 times as fast as one on
two cores, and the killed worker changes no result.

    python benchmarks/cluster.py [--images 4000] [--pairs 1]
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "configs" / "assets"
FASTER, KILL_AFTER = 1.7, 12  # times as fast as one worker; recipes that have ended when a worker is killed
TEXT = """\
name: scale-out
seed: 7
threads: 1
model: {assets}/mini_xception.keras
data:
  source: npz
  path: data.npz
  preprocess: {{scale: 0.00784313725490196, offset: -1.0}}
  test: test
  metrics: [accuracy]
stages:
  - load
  - prune: {{criterion: l2, ratio: 0.5, round_to: 8}}
  - finetune: {{epochs: 1, batch: 32, learning_rate: 0.001}}
  - strip
  - quantize: {{schemes: [int8]}}
  - export: {{formats: [tflite]}}
  - verify: {{max_accuracy_drop: 0.1}}
sweep:
  stages.prune.ratio: [0.2, 0.3, 0.4, 0.5]
  stages.prune.criterion: [l2, fpgm, bn_scale]
  stages.finetune.learning_rate: [1e-3, 3e-3]
"""


@dataclass(frozen=True)
class Ran:
    """Hold what one sweep took, how often each action was computed, and the digests of what the recipes made.

    CPU time is that of the workers and their children.
    """

    wall_s: float
    cpu_s: float
    computed: Counter[str]
    outputs: list[list[tuple[str, str]]]
    recorded: int


def prepare(folder: Path, images: int) -> Path:
    """Write the recipe, and the first images of Fashion-MNIST beside it."""
    with np.load(ASSETS / "fashion_mnist.npz") as data:
        some = {name: data[name][:images] for name in data.files}
    np.savez_compressed(folder / "data.npz", **some)
    (folder / "recipe.yaml").write_text(TEXT.format(assets=ASSETS))
    return folder / "recipe.yaml"


def sweep(path: Path, count: int, *, kill: bool = False) -> Ran:
    """Run the sweep on a new cluster with an empty store."""
    from pipeline.recipe.recipe import Recipe
    from pipeline.records.manifest import RunManifest
    from pipeline.store import Store
    from stages.search.cluster.address import open_cluster
    from stages.search.sweep import read_sweep

    recipes = read_sweep(Recipe.load(path)).recipes
    with tempfile.TemporaryDirectory() as folder:
        store, ends = Store(Path(folder) / "store"), {}
        began, before = time.monotonic(), os.times()
        with open_cluster(f"local:{count}", store) as workers:
            for index, end in workers.run(recipes):
                if not isinstance(end, RunManifest):
                    raise end
                ends[index] = end
                if kill and len(ends) == KILL_AFTER:
                    threading.Thread(target=kill_one, args=(workers.client, began)).start()
            wall_s = time.monotonic() - began
        after = os.times()  # of processes that have ended
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        entries = [ends[index].stages for index in sorted(ends)]
        computed = Counter(str(e.key) for chain in entries for e in chain if e.status != "hit")
        outputs = [[(e.id, output.digest) for e in chain for output in e.outputs] for chain in entries]
        return Ran(wall_s, cpu_s, computed, outputs, len([*store.records.keys()]))


def kill_one(client: Any, began: float) -> None:
    """Kill the first worker that is found at work."""
    pids = client.run(os.getpid)
    while True:
        for worker, tasks in client.processing().items():
            if tasks:
                os.kill(pids[worker], signal.SIGKILL)
                print(
                    f"killed worker {pids[worker]} at {time.monotonic() - began:.0f} s, at {tasks[0][:24]}…", flush=True
                )
                return
        time.sleep(0.05)


def told(text: str, *, fine: bool) -> bool:
    """Print a line with its verdict and return that."""
    print(f"{text}: {'ok' if fine else 'MISSED'}", flush=True)
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000, help="that each chain trains and is judged on, at most")
    parser.add_argument("--pairs", type=int, default=1, help="of one worker and three, in turns")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = prepare(Path(folder), arguments.images)
        ratios, one, three = [], None, None
        for _ in range(arguments.pairs):
            one, three = sweep(path, 1), sweep(path, 3)
            ratios.append(one.wall_s / three.wall_s)
            load = os.getloadavg()[0]
            both = (
                f"{name} {ran.wall_s:.0f} s, CPU {ran.cpu_s:.0f} s" for name, ran in (("one", one), ("three", three))
            )
            print(f"{'; '.join(both)}; load average {load:.1f}", flush=True)
        assert one is not None
        assert three is not None
        killed = sweep(path, 3, kill=True)
    chains, ratio = len(one.outputs), statistics.median(ratios)
    shared = sum(map(len, three.outputs))
    twice = sum(number > 1 for number in three.computed.values()) + abs(three.recorded - len(three.computed))
    different = sum(a != b or a != c for a, b, c in zip(one.outputs, three.outputs, killed.outputs, strict=True))
    print(f"{chains} chains, {shared} artifacts, {three.recorded} actions recorded, {killed.wall_s:.0f} s with a kill")
    faster = f"three workers are {ratio:.2f}× as fast as one on {os.cpu_count()} cores, wanted ≥ {FASTER}×"
    fine = [
        told(f"actions computed twice, or by nobody: {twice}", fine=twice == 0),
        told(faster, fine=ratio >= FASTER),
        told(f"chains whose results the number of workers or the kill changed: {different}", fine=different == 0),
    ]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
