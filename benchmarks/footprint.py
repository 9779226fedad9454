"""Measure peak memory and disk of the whole pipeline, action by action: is memory returned after each?

Two recipes, each run cold by the engine in a separate process: the demo, and Xception at 299×299 with random weights
and one training step. `before`, `peak` and `after` are this process's resident memory; `growth` is `after` minus what
was resident after the first action (TensorFlow is loaded by then). `+store` is what an action left in the store, `disk`
the peak of store and temporary files together while it ran. Latency rounds are small separate processes and not
counted. Linux only: the figures come from /proc/self.

    python benchmarks/footprint.py [--only demo|xception]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.contracts.events import Event, Finished, Started
from pipeline.recipe.recipe import Recipe
from pipeline.running.run import run

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("demo", "xception")
MB = 2**20
BLOCK_BYTES = 512  # the unit of st_blocks
INTERVAL_S = 0.02
SIDE, CLASSES, TRAIN, HELD_OUT = 299, 10, 8, 4


def resident_mb(field: str) -> float:
    """Return `VmRSS` (now) or `VmHWM` (the peak) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {field}: this program needs Linux")


def reset_peak() -> bool:
    """Restart the kernel's count of the peak; False if it does not permit that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def disk_mb(folder: Path) -> float:
    """Return the size of the files under a folder; files and folders that vanish meanwhile are ignored."""
    total = 0
    for place, _, names in os.walk(folder):  # Path.rglob raises if a folder vanishes
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(place) / name).lstat().st_blocks * BLOCK_BYTES
    return total / MB


class Sampler(threading.Thread):
    """Sample the peak of memory and disk since `restart`, fifty times a second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._ended = threading.Event()
        self.memory_mb = self.disk_mb = 0.0

    def run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self.look()

    def look(self) -> None:
        self.memory_mb = max(self.memory_mb, resident_mb("VmRSS"))
        self.disk_mb = max(self.disk_mb, disk_mb(self._folder))

    def restart(self) -> None:
        self.memory_mb = self.disk_mb = 0.0
        self.look()

    def end(self) -> None:
        self._ended.set()
        self.join()


@dataclass(frozen=True)
class Row:
    """Hold one action's figures, in megabytes and seconds."""

    action: str
    before: float
    peak: float
    after: float
    stored: float
    disk: float
    wall_s: float


class Meter:
    """Listen and measure every action that runs."""

    def __init__(self, folder: Path, store: Path) -> None:
        self._store = store
        self._exact = reset_peak()
        self._before = self._stored = 0.0
        self._sampler = Sampler(folder)
        self._sampler.start()
        self.rows: list[Row] = []
        self.header()

    def header(self) -> None:
        way = "the kernel's count" if self._exact else f"sampled every {INTERVAL_S * 1000:.0f} ms"
        print(f"resident memory and disk in MB (peak: {way})")
        print(f"{'action':30}{'before':>8}{'peak':>8}{'after':>8}{'growth':>8}{'+store':>8}{'disk':>8}{'s':>7}")

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start()
        elif isinstance(event, Finished) and event.status != "hit":
            self._finish(event)

    def _start(self) -> None:
        self._before, self._stored = resident_mb("VmRSS"), disk_mb(self._store)
        reset_peak()
        self._sampler.restart()

    def _finish(self, event: Finished) -> None:
        self._sampler.look()
        peak = resident_mb("VmHWM") if self._exact else self._sampler.memory_mb
        after, stored = resident_mb("VmRSS"), disk_mb(self._store) - self._stored
        row = Row(event.action, self._before, peak, after, stored, self._sampler.disk_mb, event.wall_s)
        self.rows.append(row)
        growth = after - self.rows[0].after
        print(
            f"{row.action:30}{row.before:8.0f}{row.peak:8.0f}{row.after:8.0f}{growth:+8.0f}"
            f"{row.stored:8.1f}{row.disk:8.1f}{row.wall_s:7.1f}",
            flush=True,
        )

    def end(self) -> None:
        """Stop sampling and print the figures of the whole run."""
        self._sampler.end()
        peak, disk = max(row.peak for row in self.rows), max(row.disk for row in self.rows)
        print(f"whole run: peak memory {peak:.0f} MB, peak disk {disk:.1f} MB, store {disk_mb(self._store):.1f} MB")
        first, last = self.rows[0], self.rows[-1]
        print(f"memory after {first.action} {first.after:.0f} MB, after {last.action} {last.after:.0f} MB\n")


def xception_recipe(folder: Path) -> Path:
    """Write a recipe for Xception at 299×299, random weights, with random images, enough for one training step."""
    import numpy as np

    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", TRAIN), ("val", HELD_OUT), ("test", HELD_OUT)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = rng.integers(0, CLASSES, count, dtype=np.int64)
    np.savez(folder / "images.npz", **arrays)
    head = {"include_top": False, "input_shape": [SIDE, SIDE, 3], "head": {"classes": CLASSES}}
    model = {"application": "Xception", "weights": None, **head}
    data = {"source": "npz", "path": "images.npz", "preprocess": {"mode": "tf"}, "validation": "val", "test": "test"}
    data |= {"calibration": {"from": "train", "take": TRAIN}}
    stages = [
        "load",
        {"prune": {"ratio": 0.5, "round_to": 8}},
        {"finetune": {"epochs": 1, "batch": TRAIN}},
        "strip",
        {"quantize": {"schemes": ["float32", "int8"]}},
        {"export": {"formats": ["tflite", "onnx"]}},
        # Nothing was learned, so outputs lie close together: parity in 8 bits says nothing about such a network.
        {"verify": {"tolerances": {"int8": {"min_cosine": -1.0}}}},
        {"benchmark": {"targets": ["cpu"], "rounds": 1, "seconds": 0.05}},
    ]
    document = {"name": "xception-299", "model": model, "data": data, "stages": stages}
    recipe = folder / "xception.yaml"
    recipe.write_text(json.dumps(document))  # JSON is YAML
    return recipe


def measure(name: str, folder: Path) -> None:
    """Run once, cold, in this process."""
    recipe = ROOT / "configs" / "demo.yaml" if name == "demo" else xception_recipe(folder)
    scratch = folder / "measured"
    (scratch / "tmp").mkdir(parents=True)
    tempfile.tempdir = str(scratch / "tmp")  # so that temporary files count
    meter = Meter(scratch, scratch / "store")
    run(Recipe.load(recipe), scratch / "store", listener=meter)
    meter.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)  # the folder, in the process that measures
    options = parser.parse_args()
    if options.within is not None:
        measure(options.only, options.within)
        return 0
    for name in [options.only] if options.only else NAMES:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="secateur-footprint-") as folder:
            command = [sys.executable, __file__, "--only", name, "--within", folder]
            status = subprocess.run(command, check=False).returncode
        if status != 0:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
