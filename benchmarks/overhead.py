"""Measure the engine's cost: the cold demo compared with a plain script that makes the same library calls.

Each side is a fresh process: `secateur run` with an empty store, and `plain_demo.py`, which has no store, no keys, no
manifest and no checkpoints. They take turns (A B B A) in one run of this program. It asserts that both produce equal
files, byte for byte, and prints seconds, memory, and their ratios: of each pair, then the median.

Wall time is from the start of the process to its end. Memory is the largest resident set of the process or of one of
its children, as the kernel reports it when the process ends; the children (latency rounds) are small. Copying the files
out of the store (`secateur export`) is done after the run and not measured. Exit status 1 if a bound is missed or a
file differs.

    python benchmarks/overhead.py [--pairs 2] [--recipe configs/demo.yaml] [--set K=V]…
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "configs" / "demo.yaml"
PLAIN = Path(__file__).resolve().with_name("plain_demo.py")
WALL_BOUND, MEMORY_BOUND = 1.05, 1.1
RAN = (0, 1, 5)  # the run ended; the result of its gates does not matter here
HEAVY = ("tensorflow", "tf_keras", "kerassurgeon", "tf2onnx", "onnx", "onnxruntime", "ai_edge_litert")


@dataclass(frozen=True)
class Cost:
    """Hold what one process took."""

    wall_s: float
    cpu_s: float  # including its children
    peak_mb: float


@dataclass(frozen=True)
class Pair:
    """Hold one cold process of each side, and the files that both produced."""

    engine: Cost
    plain: Cost
    digests: dict[str, str]


def cost_of(command: Sequence[str], log: Path, statuses: Sequence[int] = (0,)) -> Cost:
    """Run a process to its end; its output goes to `log`.

    A process inherits its parent's peak memory: so nothing heavy is ever imported here.
    """
    with log.open("wb") as out:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)  # Popen would wait for it again
    if process.returncode not in statuses:
        words = log.read_text(errors="replace")[-3000:]
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}\n{words}")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, kilobytes / 1024)


def engine(recipe: Path, settings: Sequence[str], folder: Path) -> Cost:
    """Run with an empty store; then copy its files to `folder/engine`."""
    secateur = [sys.executable, "-m", "pipeline"]
    store = folder / "store"
    cost = cost_of([*secateur, "run", str(recipe), "--store", str(store), *settings], folder / "engine.log", RAN)
    cost_of([*secateur, "export", "latest", str(folder / "engine"), "--store", str(store)], folder / "export.log")
    (folder / "engine" / "manifest.json").unlink()
    return cost


def plain(recipe: Path, settings: Sequence[str], folder: Path) -> Cost:
    """Run the plain script, which writes its files to `folder/plain`."""
    command = [sys.executable, str(PLAIN), str(folder / "plain"), "--recipe", str(recipe), *settings]
    return cost_of(command, folder / "plain.log")


def digests(folder: Path) -> dict[str, str]:
    """Return sha256 of every file under a folder, by its relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def measured_pair(index: int, recipe: Path, settings: Sequence[str]) -> Pair:
    """Measure both sides, the engine first in even pairs; SystemExit if their files differ."""
    costs = {}
    sides = {"engine": engine, "plain": plain}
    with tempfile.TemporaryDirectory(prefix="secateur-overhead-") as temporary:
        folder = Path(temporary)
        for name in sides if index % 2 == 0 else reversed(sides):
            costs[name] = sides[name](recipe, settings, folder)
            print(f"pair {index + 1}: {name} {costs[name].wall_s:.1f} s", file=sys.stderr, flush=True)
        ours, theirs = digests(folder / "engine"), digests(folder / "plain")
    differing = [name for name in sorted(ours | theirs) if ours.get(name) != theirs.get(name)]
    if differing or not ours:
        rows = [f"  {name}: engine {ours.get(name)}, plain {theirs.get(name)}" for name in differing]
        raise SystemExit("\n".join(["DIFFERENT FILES", *(rows or ["  none were written"])]))
    return Pair(costs["engine"], costs["plain"], ours)


def warm_disk_cache() -> None:
    """Read the libraries once, or the first to start would wait for the disk."""
    subprocess.run([sys.executable, "-c", f"import {', '.join(HEAVY)}"], cwd=ROOT, capture_output=True, check=False)


def report(pairs: Sequence[Pair]) -> int:
    """Print the table and the verdict; return the exit status."""
    print("both sides ended with equal files:")
    for name, digest in pairs[0].digests.items():
        print(f"  {digest}  {name}")
    print(f"\n{'pair':6}{'side':8}{'wall s':>10}{'CPU s':>10}{'peak MB':>10}")
    for index, pair in enumerate(pairs):
        for name, cost in (("engine", pair.engine), ("plain", pair.plain)):
            print(f"{index + 1:<6}{name:8}{cost.wall_s:10.1f}{cost.cpu_s:10.1f}{cost.peak_mb:10.0f}")
    rows = (
        ("wall time", [pair.engine.wall_s / pair.plain.wall_s for pair in pairs], WALL_BOUND),
        ("CPU time", [pair.engine.cpu_s / pair.plain.cpu_s for pair in pairs], None),
        ("peak memory", [pair.engine.peak_mb / pair.plain.peak_mb for pair in pairs], MEMORY_BOUND),
    )
    print("\nengine / plain, median of pairs")
    missed = False
    for name, ratios, bound in rows:
        median = statistics.median(ratios)
        verdict = "" if bound is None else f"   bound {bound}×: {'ok' if median <= bound else 'MISSED'}"
        missed = missed or (bound is not None and median > bound)
        print(f"  {name:12} {median:.3f}×  ({', '.join(f'{ratio:.3f}' for ratio in ratios)}){verdict}")
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="for both sides")
    options = parser.parse_args()
    settings = [word for value in options.set for word in ("--set", value)]
    warm_disk_cache()
    pairs = [measured_pair(index, options.recipe.resolve(), settings) for index in range(options.pairs)]
    if any(pair.digests != pairs[0].digests for pair in pairs):
        raise SystemExit("DIFFERENT FILES: the pairs did not end with the same")
    return report(pairs)


if __name__ == "__main__":
    sys.exit(main())
