"""Measure false alarms and power of a latency gate: models compared with themselves and with slower ones.

A/A: MLPerf Tiny's vendor files and the demo's exports, each compared with itself, on an idle machine and with one core
loaded. Power: three of the vendor's files with real work added that was measured to cost 3, 5 and 10 % of them, on an
idle machine. Every comparison is what `secateur compare --metric latency --tolerance 2%` does, its one extension
included. From the same samples: a Mann-Whitney test of all iterations, and plain thresholds. A repeat is one comparison
of each case, so that the table is meaningful at any time: Ctrl-C prints the current one, and the same command resumes.

Exit status 1 unless there are 400 A/A comparisons with less than 1 % false regressions, 95 % of the slowdowns by 5 and
10 % are found and 90 % of those by 3 %, and no comparison on the idle machine took more than 10 s.

    python benchmarks/gate_power.py --data DIR [--repeats 25] [--work DIR]      25 repeats: about an hour
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

from extra_work import slowed_file, width_of
from fresh import ROOT
from public_models import TinyModel, tiny_model_file
from resumable import DEFAULT_WORK, Results

TOLERANCE, ROUNDS, SECONDS = 0.02, 10, 0.05
SIZES = (0.03, 0.05, 0.10)
SLOWED: tuple[TinyModel, ...] = ("image_classification", "visual_wake_words", "keyword_spotting")
WANTED = {0.03: 0.90, 0.05: 0.95, 0.10: 0.95}
ENOUGH_AA, FALSE_ALARMS, LONGEST_S = 400, 0.01, 10.0
LEVEL = 0.05  # of the Mann-Whitney test
METHODS = {
    "secateur": lambda one: one["verdict"] == "regression",
    "Mann-Whitney": lambda one: one["mann_whitney_p"] < LEVEL,
    "M-W and median": lambda one: one["mann_whitney_p"] < LEVEL and one["median_ratio"] > 1 + TOLERANCE,
    "mean > 2 %": lambda one: one["mean_ratio"] > 1 + TOLERANCE,
    "median > 2 %": lambda one: one["median_ratio"] > 1 + TOLERANCE,
}


def compared(baseline: Path, candidate: Path) -> dict[str, Any]:
    """Compare once with the engine, and apply other methods to the same samples."""
    import numpy as np
    from scipy.stats import mannwhitneyu

    began = time.perf_counter()
    with measuring(baseline, candidate, ROUNDS) as one:
        one.measure(ROUNDS)
        (found,) = one.results()
        if found.verdict == "inconclusive":
            one.extend()
            (found,) = one.results()
        seconds = time.perf_counter() - began
        sides = [[done.candidate.samples_ns for done in one.rounds], [done.baseline.samples_ns for done in one.rounds]]
    slower, before = (np.concatenate(side) for side in sides)
    assert found.evidence is not None
    return {
        "verdict": found.verdict,
        "change": found.change,
        "interval": found.interval,
        "noise_floor": found.evidence.noise_floor,
        "rounds": found.evidence.rounds,
        "seconds": seconds,
        "mann_whitney_p": float(mannwhitneyu(slower, before, alternative="greater").pvalue),
        "mean_ratio": float(slower.mean() / before.mean()),
        "median_ratio": float(np.median(slower) / np.median(before)),
    }


def measuring(baseline: Path, candidate: Path, rounds: int) -> Any:
    """Return the engine's rounds of two files on this machine."""
    from pipeline.contracts.events import ActionEvents, silent
    from pipeline.records.keys import digest_of_file
    from stages.commands.comparing.measured import Measuring, Plan
    from stages.commands.comparing.operands import Model
    from stages.commands.comparing.pairing import Pair
    from stages.commands.comparing.tolerances import Tolerances
    from stages.devices.target import Sampling, find_target
    from stages.formats.registry import recognise

    base, other = (Model(path.name, recognise(path).kind, path, digest_of_file(path)) for path in (baseline, candidate))
    held = frozenset({"latency"})
    plan = Plan(find_target("cpu"), Sampling(SECONDS), rounds, Tolerances(TOLERANCE), held, frozenset())
    return Measuring(Pair(other.label, base, other), plan, ActionEvents("gate_power", silent))


def long_ratio(candidate: Path, baseline: Path, rounds: int) -> tuple[float, float, float]:
    """Return the ratio over many rounds, for calibration."""
    with measuring(baseline, candidate, rounds) as one:
        one.measure(rounds)
        (found,) = one.results()
    return 1 + found.change, 1 + found.interval[0], 1 + found.interval[1]


@contextmanager
def one_core(loaded: bool) -> Iterator[None]:
    """Keep one core busy with a loop in another process meanwhile, if requested."""
    if not loaded:
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        yield
    finally:
        busy.kill()
        busy.wait()


def vendor_files(data: Path, folder: Path, names: Sequence[TinyModel]) -> dict[str, Path]:
    """Return MLPerf Tiny's own int8 files."""
    found: dict[str, Path] = {}
    for name in names:
        found[name] = folder / f"{name}.tflite"
        found[name].write_bytes(tiny_model_file(data, name, "tflite"))
    return found


def demo_files(work: Path) -> dict[str, Path]:
    """Return the demo's exports, from a separate run kept in `work` (a minute, once)."""
    command = [sys.executable, "-m", "pipeline", "run", str(ROOT / "configs" / "demo.yaml"), "--until", "export"]
    store, out = work / "demo-store", work / "demo-files"
    subprocess.run([*command, "--store", str(store)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    export = [sys.executable, "-m", "pipeline", "export", "latest", str(out), "--store", str(store)]
    subprocess.run(export, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return {f"demo {f}/{s}": out / f / s / f"model.{f}" for f in ("tflite", "onnx") for s in ("float32", "int8")}


class Program:
    """Hold the cases, and the results of each so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.results = Results(options.work, Path(__file__))
        self.folder = options.work / "gate-power-models"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.aa: dict[str, list[dict[str, Any]]] = {"rest": [], "loaded": []}
        self.slowed: dict[float, list[dict[str, Any]]] = {size: [] for size in SIZES}
        self.sizes: dict[str, Any] = {}

    def run(self) -> None:
        options = self.options
        files = vendor_files(options.data, self.folder, options.models)
        files |= {} if options.without_demo else demo_files(options.work)
        slowed = {name: self._widths(name) for name in SLOWED if name in options.models}
        for repeat in range(options.repeats):
            for label, path in files.items():
                for state, found in self.aa.items():
                    found.append(self._one({"aa": label, "state": state}, repeat, path, path))
                    self._tell(repeat, f"A/A {label}, {state}", found[-1])
            for name, widths in slowed.items() if repeat < options.power_repeats else ():
                for size, width in widths.items():
                    sides = [slowed_file(options.data, self.folder, name, w) for w in (0, width)]
                    case = {"slowed": name, "size": size, "width": width, "state": "rest"}
                    self.slowed[size].append(self._one(case, repeat, *sides))
                    self._tell(repeat, f"{name} +{size:.0%}", self.slowed[size][-1])

    def _widths(self, name: TinyModel) -> dict[float, int]:
        """Return the extra work of each size, calibrated once."""
        found, ratio = {}, cache(long_ratio)
        for size in SIZES:
            case = {"calibration": name, "size": size}
            known = self.results.get(case)
            if known is None:
                print(f"calibrating {name} +{size:.0%}", file=sys.stderr)
                file_of = partial(slowed_file, self.options.data, self.folder, name)
                known = width_of(size, file_of, ratio)
                if known is not None:
                    self.results.add(case, known)
            self.sizes[f"{name} +{size:.0%}"] = known and known[1]
            if known is not None:
                found[size] = known[0]
        return found

    def _one(self, case: dict[str, Any], repeat: int, baseline: Path, candidate: Path) -> dict[str, Any]:
        case = {**case, "repeat": repeat}
        found = self.results.get(case)
        if found is None:
            with one_core(loaded=case["state"] == "loaded"):
                found = compared(baseline, candidate)
            self.results.add(case, found)
        return found  # type: ignore[no-any-return]

    def _tell(self, repeat: int, what: str, found: dict[str, Any]) -> None:
        said = f"{repeat + 1}/{self.options.repeats} {what}: {found['verdict']} {1 + found['change']:.4f}"
        print(f"{said} ({found['rounds']} rounds, {found['seconds']:.1f} s)", file=sys.stderr)

    def table(self) -> str:
        """Return how many of each kind of comparison every method calls a regression, and other findings."""
        rows = [("A/A at rest", self.aa["rest"]), ("A/A, one core loaded", self.aa["loaded"])]
        rows += [(f"slower by {size:.0%}, at rest", found) for size, found in self.slowed.items()]
        lines = [f"{'':<24}{'number':>7}" + "".join(f"{name:>16}" for name in METHODS) + f"{'inconclusive':>14}"]
        for name, found in rows:
            shares = [_share(sum(map(said, found)), len(found)) for said in METHODS.values()]
            undecided = _share(sum(one["verdict"] == "inconclusive" for one in found), len(found))
            lines.append(f"{name:<24}{len(found):>7}" + "".join(f"{s:>16}" for s in shares) + f"{undecided:>14}")
        lines += ["", "called a regression, of so many comparisons; tolerance 2 %", *self._details(rows)]
        return "\n".join(lines)

    def _details(self, rows: Sequence[tuple[str, list[dict[str, Any]]]]) -> Iterator[str]:
        import numpy as np

        for name, found in rows:
            if found:
                apart = np.quantile([abs(one["change"]) for one in found], 0.95) if name.startswith("A/A") else None
                floor = np.median([one["noise_floor"] for one in found])
                said = f"; 95 % within {apart:.2%} of 1" if apart is not None else ""
                extended = sum(one["rounds"] > ROUNDS for one in found)
                times = sorted(one["seconds"] for one in found)
                told = f"median {times[len(times) // 2]:.1f} s, longest {times[-1]:.1f} s, {extended} extended"
                yield f"{name:<24} {told}, noise floor {floor:.2%}{said}"
        for name, measured in self.sizes.items():
            said = (
                "{:.4f} [{:.4f}, {:.4f}]".format(*measured) if measured else "none within a tenth of that: not tested"
            )
            yield f"{name:<40} measured beforehand: {said}"

    def faults(self) -> list[str]:
        """Return which requirements are not met."""
        aa = self.aa["rest"] + self.aa["loaded"]
        false = sum(map(METHODS["secateur"], aa))
        found = []
        if len(aa) < ENOUGH_AA:
            found.append(f"{len(aa)} A/A comparisons, {ENOUGH_AA} are wanted")
        if aa and false >= FALSE_ALARMS * len(aa):
            found.append(f"{false} of {len(aa)} A/A comparisons are called regressions")
        for size, wanted in WANTED.items():
            of_size = self.slowed[size]
            hits = sum(map(METHODS["secateur"], of_size))
            if not of_size or hits < wanted * len(of_size):
                found.append(f"{hits} of {len(of_size)} slow-downs by {size:.0%} are found, {wanted:.0%} are wanted")
        at_rest = [*self.aa["rest"], *(one for of_size in self.slowed.values() for one in of_size)]
        longest = max((one["seconds"] for one in at_rest), default=0.0)
        if longest > LONGEST_S:
            found.append(f"a comparison at rest took {longest:.1f} s, {LONGEST_S:.0f} are allowed")
        return found


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else "-"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument(
        "--power-repeats", type=int, default=25, help="of the slowed models, where there is little time"
    )
    parser.add_argument("--models", nargs="+", default=list(get_args(TinyModel)), choices=get_args(TinyModel))
    parser.add_argument("--without-demo", action="store_true", help="leave out the demo's exports (they take a minute)")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    program = Program(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    interrupted = False
    try:
        program.run()
    except KeyboardInterrupt:
        interrupted = True
    print(program.table())
    faults = program.faults()
    print("interrupted: the table is of what there is so far; the same command goes on" if interrupted else "", end="")
    print("\n".join(["", *(f"FAULT: {fault}" for fault in faults)]) if faults else "\nall within their limits")
    return 130 if interrupted else 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
