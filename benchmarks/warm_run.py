"""Time a run in which everything is cached: the whole process, as a user starts it.

Prints the median of the wall times of `secateur run configs/demo.yaml` with minimum and maximum, and that of a process
that only imports the libraries of such a run, in turns: their ratio is bounded. Then how long DVC and Snakemake take to
find that eight stages need nothing, if they are installed. Checks that every action was a hit and that the process
imported no heavy package. Python may keep its bytecode, as it does by default. Exit status 1 if that or the bound does
not hold.

    python benchmarks/warm_run.py [--store DIR] [--runs 10]     # without a store: a temporary one, filled first
    python benchmarks/warm_run.py --base DIR [--runs 25]        # instead compare with another commit, in turns
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cold_demo import python_of

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "configs" / "demo.yaml"
LIBRARIES = "import typer, pydantic, ruamel.yaml, platformdirs, filelock, rich.live"  # imported by every run
BOUND = 2.2  # times the duration of a process that only imports these
BOUND_BESIDE = 1.03  # times another commit's duration, in turns
HEAVY = {"tensorflow", "tf_keras", "keras", "numpy", "onnx", "onnxruntime", "ai_edge_litert"}
VERDICTS = (0, 1, 5)  # the run ended; the result of its gates does not matter here
PEER_STAGES = 8
KEEPING_BYTECODE = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def secateur(store: Path, *options: str) -> list[str]:
    """Return the command line of one run of the demo."""
    script = Path(sys.executable).with_name("secateur")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "pipeline"]
    return [*program, "run", str(RECIPE), "--store", str(store), *options]


def wall_times(command: Sequence[str], runs: int, folder: Path, statuses: Sequence[int] = (0,)) -> list[float]:
    """Return seconds from start to end of each of `runs` processes, one after the other."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=KEEPING_BYTECODE, capture_output=True, text=True, check=False)
        times.append(time.perf_counter() - began)
        if done.returncode not in statuses:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return times


def fill(store: Path) -> None:
    """Make the first, cold run; its progress goes to stderr."""
    print("filling the store with a first run", file=sys.stderr)
    status = subprocess.run(secateur(store), cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode
    if status not in VERDICTS:
        raise SystemExit(f"the first run ended with {status}")


def check_cached(store: Path) -> tuple[int, list[str]]:
    """Return how many actions the warm run has, and what is wrong with it: actions that ran, heavy imports."""
    environment = KEEPING_BYTECODE | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(
        secateur(store, "--json"), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in VERDICTS:
        raise SystemExit(f"the warm run ended with {done.returncode}\n{done.stderr[-2000:]}")
    stages = json.loads(done.stdout)["stages"]
    names = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    if "pipeline" not in names:  # otherwise the check below could not fail
        raise SystemExit("the import log does not show the import of pipeline")
    faults = [
        f"{one['id']} was no hit but {one['status']}: {one['reason']}" for one in stages if one["status"] != "hit"
    ]
    return len(stages), faults + [f"the process imported {name}" for name in sorted(HEAVY & names)]


def described(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.3f} s (median of {len(times)}, {min(times):.3f} to {max(times):.3f})"


def dvc_project(program: str, folder: Path) -> list[str]:
    """Make a DVC project of eight stages in a row, all done; return the command that finds this out."""
    stages = {
        f"s{k}": {"cmd": f"cp f{k - 1} f{k}", "deps": [f"f{k - 1}"], "outs": [f"f{k}"]}
        for k in range(1, PEER_STAGES + 1)
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}))  # JSON is YAML
    for arguments in (["init", "--no-scm", "-q"], ["config", "core.analytics", "false"], ["repro", "-q"]):
        subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)
    return [program, "repro"]


def snakemake_project(program: str, folder: Path) -> list[str]:
    """Make the same for Snakemake."""
    rules = [f"rule all:\n    input: 'f{PEER_STAGES}'\n"] + [
        f"rule s{k}:\n    input: 'f{k - 1}'\n    output: 'f{k}'\n    shell: 'cp {{input}} {{output}}'\n"
        for k in range(1, PEER_STAGES + 1)
    ]
    (folder / "Snakefile").write_text("\n".join(rules))
    command = [program, "--cores", "1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return command


PEERS = {"dvc": (dvc_project, "up to date"), "snakemake": (snakemake_project, "Nothing to be done")}


def peer_line(name: str, runs: int) -> str:
    """Return a peer's time for a run with nothing to do, or that it isn't installed."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which(name, path=places)
    if program is None:
        return f"{name}: not installed"
    project, idle_words = PEERS[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "f0").write_text("the source\n")
        command = project(program, folder)
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        if idle_words not in said.stdout + said.stderr:
            raise SystemExit(f"{name} found something to do:\n{said.stdout}{said.stderr}")
        times = wall_times(command, runs, folder)
    return f"{name}, {PEER_STAGES} stages, nothing to do: {described(times)}"


def beside(base: Path, store: Path, base_store: Path, runs: int) -> tuple[str, float]:
    """Compare this checkout with another in turns (A B B A), each with its own filled store: return a line and the
    ratio.
    """
    stores, times = {ROOT: store, base: base_store}, dict[Path, list[float]]()
    for turn in range(runs):
        for checkout in (ROOT, base) if turn % 2 else (base, ROOT):
            command = [python_of(checkout), "-m", "pipeline", "run", str(checkout / RECIPE.relative_to(ROOT))]
            command += ["--store", str(stores[checkout])]
            if not turn:  # fills the store
                wall_times(command, 1, checkout, VERDICTS)
            times.setdefault(checkout, []).extend(wall_times(command, 1, checkout, VERDICTS))
    ratio = statistics.median(times[ROOT]) / statistics.median(times[base])
    least = min(times[ROOT]) / min(times[base])
    text = (
        f"{described(times[ROOT])}, base {described(times[base])}: {ratio:.3f}× by medians, {least:.3f}× by the least"
    )
    return text, ratio


def measure(store: Path, runs: int) -> int:
    """Print the figures for a filled store; return the exit status."""
    count, faults = check_cached(store)
    imports, times = list[float](), list[float]()
    for _ in range(runs):  # in turns: the machine is the same for both
        imports += wall_times([sys.executable, "-c", LIBRARIES], 1, ROOT)
        times += wall_times(secateur(store), 1, ROOT, VERDICTS)
    ratio = statistics.median(times) / statistics.median(imports)
    if ratio > BOUND:
        faults.append(f"the ratio is above {BOUND}")
    print(f"secateur run {RECIPE.relative_to(ROOT)}, {count} actions, all cached: {described(times)}")
    print(f"a process that imports its libraries alone: {described(imports)}; ratio {ratio:.2f}, bound {BOUND}")
    for name in PEERS:
        print(peer_line(name, runs), flush=True)
    print(
        "\n".join(f"MISSED: {fault}" for fault in faults) or f"ok: every action a hit; none of {sorted(HEAVY)} imported"
    )
    return 1 if faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="filled if it isn't yet; default: a temporary one")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--base", type=Path, help="a checkout of another commit, with its .venv, to be run in turns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="secateur-warm-") as temporary:
        store = (options.store or Path(temporary) / "store").resolve()
        if options.base is not None:
            text, ratio = beside(options.base.resolve(), store, Path(temporary) / "base", options.runs)
            print(f"{text}, bound {BOUND_BESIDE}×: {'ok' if ratio <= BOUND_BESIDE else 'MISSED'}")
            return 1 if ratio > BOUND_BESIDE else 0
        fill(store)
        return measure(store, options.runs)


if __name__ == "__main__":
    sys.exit(main())
