"""Ask an oracle outside our process: does each delivered float32 file match the user's original in plain Keras?

`verify` compares files with a reference from our own store; it can't see errors in loading or translation. Here the
user's original file is opened by plain Keras (2 or 3, whichever wrote it) in a fresh process that imports nothing of
this project (`oracle_plain.py`), and each TFLite and ONNX file of an unpruned run through the command line (load,
strip, quantize float32, export) is compared with it there, run plainly in LiteRT and ONNX Runtime. It covers

* every network that the tests build, by both Keras versions if its code runs in both (`oracle_networks.py`),
* the 108 files of `loaders.py`,
* the 71 networks of tf_keras.applications, with random weights and measured statistics.

One line each: `right`; `refused`, with our reason; `untold`, if plain Keras can't run it, or its outputs do not vary
with its input by ten times the tolerance (then nothing is compared); `wrong`. Networks of a unit go through the command
line one after the other in one process. Results are kept: a killed run resumes.

Exit status 1 if anything is wrong.

    python benchmarks/oracle.py [--state DIR] [--only PATTERN] [--list]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fresh import ROOT, PartFailed, in_fresh_process
from loaders import KINDS, SIZES
from resumable import DEFAULT_WORK, Results

HERE = Path(__file__).parent
NETWORKS, PLAIN = HERE / "oracle_networks.py", HERE / "oracle_plain.py"
CHUNK, PATIENCE_S = 20, 3600
FORMATS = ("tflite", "onnx")
VERDICTS = ("right", "refused", "untold", "wrong")


def units() -> Iterator[str]:
    """Yield what is built at once: the tests' networks by each Keras, each network of `loaders`, each application."""
    yield from (f"tests:{version}" for version in KINDS)
    yield from (f"loaders:{name}:{version}" for name in SIZES for version in KINDS)
    for name in sorted(in_fresh_process(str(HERE / "applications.py"), "--list")):
        yield f"application:{name}"


def run(arguments: Sequence[str], *, alone: bool = False) -> subprocess.CompletedProcess[str] | None:
    """Run a Python program in a fresh process; `alone` keeps this repository out of its path. None on timeout."""
    own = [] if alone else [str(ROOT)]
    path = os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, *(["-P"] if alone else []), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return None


def lines_of(program: Sequence[str], written: Path, *, alone: bool) -> tuple[dict[str, Any], str | None, str]:
    """Return a child's results by id, the id at which it ended early, and its last words."""
    done = run(program, alone=alone)
    lines = [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []
    found = {line["id"]: line["found"] for line in lines if "found" in line}
    begun = [line["id"] for line in lines if line["id"] not in found]
    if done is not None and done.returncode == 0:
        return found, None, ""
    words = f"{PATIENCE_S} s passed" if done is None else f"{done.returncode}: {done.stderr.strip()[-300:]}"
    return found, begun[-1] if begun else "", words


def all_of(jobs: list[dict[str, Any]], program: Sequence[str], folder: Path, *, alone: bool) -> dict[str, Any]:
    """Return a program's result for each job; `ended` if its process did."""
    found, waiting = dict[str, Any](), jobs
    while waiting:
        wanted, written = folder / "jobs.json", folder / "found.jsonl"
        written.unlink(missing_ok=True)
        wanted.write_text(json.dumps(waiting))
        some, left, words = lines_of([*program, str(wanted), str(written)], written, alone=alone)
        found |= some
        if left is not None:
            found[left or waiting[0]["id"]] = {"ended": words}
        waiting = [job for job in waiting if job["id"] not in found]
        if left is None and waiting:
            raise SystemExit(f"{program[0]} said nothing of {waiting[0]['id']}")
    return found


def delivered(jobs: list[dict[str, Any]], results: Path, folder: Path) -> None:
    """Act as the child that is the product: each job through the command line, its files by format, in this process."""
    for number, job in enumerate(jobs):
        with results.open("a") as file:
            file.write(json.dumps({"id": job["id"]}) + "\n")
        found = through_command_line(job, folder / f"{number}", folder / "store")
        with results.open("a") as file:
            file.write(json.dumps({"id": job["id"], "found": found}) + "\n")


def through_command_line(job: dict[str, Any], folder: Path, store: Path) -> dict[str, Any]:
    """Return `files` by format of one run, and `reasons` for those that were not made."""
    folder.mkdir()
    recipe, said = folder / "recipe.yaml", (io.StringIO(), io.StringIO())
    export = {"formats": list(FORMATS)} | ({"shapes": job["shapes"]} if job["shapes"] else {})
    stages = ["load", "strip", {"quantize": {"schemes": ["float32"]}}, {"export": export}]
    recipe.write_text(json.dumps({"name": "oracle", "seed": 1, "model": job["model"], "stages": stages}))
    with redirect_stdout(said[0]), redirect_stderr(said[1]):
        code = command("run", str(recipe), "--json", "--store", str(store))
    try:
        manifest = json.loads(said[0].getvalue())
    except ValueError:
        manifest = {}
    files, reasons, names = dict[str, str](), dict[str, str](), dict[str, list[str]]()
    for entry in manifest.get("stages", ()):
        kind = str(entry["axis"] or "").partition("/")[0]
        if entry["stage"] == "export" and kind in FORMATS and entry["outputs"]:
            digest = entry["outputs"][0]["files"][0]["digest"].partition(":")[2]
            names[kind] = [one["name"] for one in entry["outputs"][0]["facts"]["outputs"]]
            files[kind] = str(folder / f"model.{kind}")
            Path(files[kind]).write_bytes((store / "blobs" / "sha256" / digest).read_bytes())
    for kind in FORMATS:
        if kind not in files:
            reasons[kind] = reason(said[1].getvalue() or said[0].getvalue(), kind, code)
    return {"files": files, "names": names, "reasons": reasons}


def command(*words: str) -> int:
    """Run the command line like `secateur WORDS`; return its exit code."""
    from pipeline.start import main

    kept, sys.argv = sys.argv, ["secateur", *words]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = kept
    return 0


def reason(said: str, kind: str, code: int) -> str:
    """Return the line of the product's output that tells why a format was not made."""
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower() or "✘" in line] or lines[-2:]
    own = [line for line in told if kind in line.lower()] or told
    return f"exit {code}: {' | '.join(own[:2])}"[:400]


def verdict(made: dict[str, Any], truth: dict[str, Any]) -> dict[str, Any]:
    """Return one verdict on a network: the worst of its files'; `why` is the evidence."""
    if "ended" in made:
        return {"verdict": "wrong", "why": f"the command line's process ended with {made['ended']}"}
    if "ended" in truth:
        return {"verdict": "wrong", "why": f"the oracle's process ended with {truth['ended']}"}
    if not made["files"]:
        return {"verdict": "refused", "why": "; ".join(dict.fromkeys(made["reasons"].values()))}
    if "untold" in truth:
        return {"verdict": "untold", "why": truth["untold"]}
    off = {kind: truth[kind] for kind in made["files"]}
    figures = ", ".join(
        f"{kind} {each:.0e}" if isinstance(each, float) else f"{kind} {each}" for kind, each in off.items()
    )
    figures += f" (allowed {truth['allowed']:.0e}, moves {truth['moves']:.0e})"
    if not all(truth[f"{kind} right"] for kind in off):
        return {"verdict": "wrong", "why": figures}
    missing = "".join(f"; no {kind}: {why}" for kind, why in made["reasons"].items())
    return {"verdict": "refused" if missing else "right", "why": figures + missing}


def unit_run(unit: str, results: Results, only: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the verdict on each network of a unit; known ones are reused."""
    known = results.get({"unit": unit})
    if known is not None and all(results.get({"network": name}) for name in known if fnmatchcase(name, only)):
        yield from ((name, results.get({"network": name})) for name in known if fnmatchcase(name, only))
        return
    with tempfile.TemporaryDirectory(prefix="secateur-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "networks").mkdir()
        done = run([str(NETWORKS), unit, str(folder / "networks")])
        index = folder / "networks" / "index.json"
        if not index.exists():
            words = "it took too long" if done is None else done.stderr.strip()[-400:]
            raise PartFailed(f"{unit} can't be made: {words}")
        jobs = json.loads(index.read_text())
        results.add({"unit": unit}, [job["id"] for job in jobs])
        jobs = [job for job in jobs if fnmatchcase(job["id"], only)]
        for job in jobs:
            if results.get({"network": job["id"]}):
                yield job["id"], results.get({"network": job["id"]})
        waiting = [job for job in jobs if not results.get({"network": job["id"]})]
        for first in range(0, len(waiting), CHUNK):
            for job_id, found in chunk_run(waiting[first : first + CHUNK]):
                results.add({"network": job_id}, found)
                yield job_id, found


def chunk_run(jobs: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Run some networks of one unit through the command line, then through the oracle."""
    with tempfile.TemporaryDirectory(prefix="secateur-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        made = all_of(jobs, [__file__, "--deliver", str(folder)], folder, alone=False)
        asked = [
            {**job, "files": made[job["id"]]["files"], "names": made[job["id"]]["names"]}
            for job in jobs
            if made[job["id"]].get("files")
        ]
        truth = all_of(asked, [str(PLAIN)], folder, alone=True)
    return [(job["id"], verdict(made[job["id"]], truth.get(job["id"], {}))) for job in jobs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", "--work", dest="work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--only", default="*", help="networks whose id matches, such as application:*")
    parser.add_argument("--list", action="store_true", help="the units, and no more")
    parser.add_argument("--deliver", nargs=3, metavar=("FOLDER", "JOBS", "RESULTS"), type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.deliver:
        folder, jobs, written = options.deliver
        delivered(json.loads(jobs.read_text()), written, Path(tempfile.mkdtemp(dir=folder)))
        return 0
    wanted = [unit for unit in units() if options.only == "*" or may_hold(unit, options.only)]
    if not wanted:
        parser.error(f"no network is called {options.only}: --list names the units")
    if options.list:
        print("\n".join(wanted))
        return 0
    results, table = Results(options.work, Path(__file__), NETWORKS, PLAIN), dict[str, dict[str, Any]]()
    for unit in wanted:
        try:
            for name, found in unit_run(unit, results, options.only):
                table[name] = found
                print(f"{found['verdict']:<8}{name}  {found['why']}", flush=True)
        except PartFailed as error:
            table[unit] = {"verdict": "wrong", "why": str(error)}
            print(f"{'wrong':<8}{unit}  {error}", flush=True)
    counts = Counter(found["verdict"] for found in table.values())
    print(f"\n{len(table)} networks: " + ", ".join(f"{counts[each]} {each}" for each in VERDICTS))
    for each in ("wrong", "untold"):
        for name, found in table.items():
            if found["verdict"] == each:
                print(f"  {each}: {name}: {found['why']}")
    return 1 if counts["wrong"] or not table else 0


def may_hold(unit: str, pattern: str) -> bool:
    """Return whether a network of the unit can match: ids begin with their unit, and are it if it is an application."""
    if unit.startswith("application:"):
        return fnmatchcase(unit, pattern)
    fixed = pattern.partition("*")[0].partition("?")[0].partition("[")[0]
    return unit.startswith(fixed) or fixed.startswith(unit)


if __name__ == "__main__":
    raise SystemExit(main())
