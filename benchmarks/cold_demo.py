"""Compare the cold demo with another commit: wall time and peak memory of the whole process tree.

Two checkouts take turns (A B B A), each run a fresh process with an empty store: this checkout and the one given as
`--base`, each with its own `.venv` if it has one. Memory is the sum of the resident memory of all processes of a run,
shared pages counted once (PSS, Linux), sampled five times a second. Exports whose bytes differ are counted, too. Exit
status 1 if a bound is missed.

    python benchmarks/cold_demo.py --base ../base [CHECKOUT] [--pairs 2] [--recipe configs/demo.yaml] [--set K=V]…
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WALL_BOUND, MEMORY_BOUND = 1.05, 1.5
LOOK_S = 0.2
RAN = (0, 1, 5)  # the run ended; the result of its gates does not matter here
HEAVY = "tensorflow, tf_keras, tf2onnx, onnx, onnxruntime, ai_edge_litert"
EXPORTS = ("tflite-model", "onnx-model")


@dataclass(frozen=True)
class Cost:
    """Hold what one cold run took, and its exports: digests by action."""

    wall_s: float
    peak_mb: float  # of all processes together
    at_peak: str  # the memory of each process then, and the run's last message
    exports: dict[str, str]


def python_of(checkout: Path) -> str:
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its current descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def proportional_mb(pid: int) -> float:
    """Return a process' memory, shared pages divided by the number of sharers; 0 if it has ended."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def cold_run(checkout: Path, recipe: str, settings: Sequence[str]) -> Cost:
    """Run once with an empty store; SystemExit if it does not end."""
    with tempfile.TemporaryDirectory(prefix="secateur-cold-") as folder:
        out, log = Path(folder) / "manifest.json", Path(folder) / "log"
        command = [python_of(checkout), "-m", "pipeline", "run", recipe, "--store", f"{folder}/store", "--json"]
        with out.open("wb") as stdout, log.open("wb") as stderr:
            began = time.perf_counter()
            process = subprocess.Popen(
                [*command, *settings], cwd=checkout, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
            peak, at_peak = 0.0, ""
            while process.poll() is None:
                taken = [proportional_mb(pid) for pid in family(process.pid)]
                if sum(taken) > peak:
                    peak = sum(taken)
                    said = log.read_text(errors="replace").splitlines()[-1:]
                    at_peak = f"{' + '.join(f'{one:.0f}' for one in taken)} after: {''.join(said)[:60]}"
                time.sleep(LOOK_S)
            wall_s = time.perf_counter() - began
        if process.returncode not in RAN:
            raise SystemExit(f"{checkout}: ended with {process.returncode}\n{log.read_text(errors='replace')[-3000:]}")
        stages = json.loads(out.read_bytes())["stages"]
    exports = {
        one["id"]: made["files"][0]["digest"] for one in stages for made in one["outputs"] if made["kind"] in EXPORTS
    }
    return Cost(wall_s, peak, at_peak, exports)


def report(pairs: Sequence[tuple[Cost, Cost]]) -> int:
    """Print the table and the verdict; return the exit status."""
    print(f"{'pair':6}{'side':8}{'wall s':>10}{'peak MB':>10}   at the peak")
    for index, pair in enumerate(pairs):
        for name, cost in zip(("this", "base"), pair, strict=True):
            print(f"{index + 1:<6}{name:8}{cost.wall_s:10.1f}{cost.peak_mb:10.0f}   {cost.at_peak}")
    this, base = pairs[0]
    common = this.exports.keys() & base.exports.keys()
    print(
        f"\nexports with equal bytes: {sum(this.exports[one] == base.exports[one] for one in common)} of {len(common)}"
    )
    missed = False
    for what, bound, ratios in (
        ("wall time", WALL_BOUND, [one.wall_s / other.wall_s for one, other in pairs]),
        ("peak memory", MEMORY_BOUND, [one.peak_mb / other.peak_mb for one, other in pairs]),
    ):
        median = statistics.median(ratios)
        missed = missed or median > bound
        told = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{what:12} {median:.3f}×  ({told})   bound {bound}×: {'ok' if median <= bound else 'MISSED'}")
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--base", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--recipe", default="configs/demo.yaml", help="in each checkout")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="for both sides")
    options = parser.parse_args()
    settings = [word for value in options.set for word in ("--set", value)]
    sides = {"this": options.checkout.resolve(), "base": options.base.resolve()}
    for checkout in sides.values():  # read the libraries once, or the first to start would wait for the disk
        subprocess.run([python_of(checkout), "-c", f"import {HEAVY}"], cwd=checkout, capture_output=True, check=False)
    pairs = []
    for index in range(options.pairs):
        costs = {}
        for name in sides if index % 2 == 0 else reversed(sides):
            costs[name] = cold_run(sides[name], options.recipe, settings)
            print(f"pair {index + 1}: {name} {costs[name].wall_s:.1f} s", file=sys.stderr, flush=True)
        pairs.append((costs["this"], costs["base"]))
    return report(pairs)


if __name__ == "__main__":
    sys.exit(main())
