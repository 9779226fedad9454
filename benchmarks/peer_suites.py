"""Run peers' test suites through this product: what their authors test, we load and export, or prune.

* tf2onnx 1.17.0: the Keras tests in its wheel (`tests/keras2onnx_unit_tests/test_layers.py`), written for keras2onnx.
  Each builds a network and asks a converter for its ONNX file; here the network is saved as a user would save it, our
  `load` reads it (code in it is trusted) and our export converts it. The test itself then runs the file in ONNX Runtime
  and compares it with `predict` of the network that it built, by its own tolerance.
* kerassurgeon 0.2.0: the tests of surgery in its source distribution. An adapter replaces its `Surgeon`: channels that
  a test deletes are removed by our channel groups and our surgery; the test checks the weights.
* ai-edge-quantizer and LiteRT: their tests read TFLite files; how many of them build a Keras network is counted.

Suites are downloaded by pip from the index that it is configured for, in pinned versions with pinned hashes. Tests run
in child processes, some dozens in each, so that one that crashes or hangs costs only itself. Results are kept: a killed
run resumes. Each test is `passed`, `refused` (a reason in our words), `unasked` (it asks for something that we do not
offer, such as private functions), `skipped` by its authors, or `wrong`: other numbers, or an end without a message.

Exit status 1 if anything is wrong, or fewer pass than `WANTED`.

    python benchmarks/peer_suites.py [--work DIR] [--only PATTERN] [--reasons]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import Any

from fresh import ROOT, with_modules_of
from resumable import DEFAULT_WORK, Results

CHUNK, PATIENCE_S = 40, 3600  # tests of a child process, and its time limit
NO_KERAS = ("ai-edge-quantizer", "ai-edge-litert")
VERDICTS = ("passed", "refused", "unasked", "skipped", "wrong")
CHILD = Path(__file__).with_name("peer_adapters.py")
# kerassurgeon's build requires a release of poetry that no longer installs; its name and version are known.
STAND_IN_FOR_POETRY = """
from pathlib import Path
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = Path(metadata_directory) / "kerassurgeon-0.2.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: kerassurgeon\\nVersion: 0.2.0\\n")
    (folder / "WHEEL").write_text("Wheel-Version: 1.0\\n")
    return folder.name
"""


@dataclass(frozen=True)
class Suite:
    """Describe a peer's tests: the distribution that holds them, and how many of them must pass."""

    package: str
    version: str
    file: str
    sha256: str
    tests: str
    wanted: int


SUITES = {
    "tf2onnx": Suite(
        package="tf2onnx",
        version="1.17.0",
        file="tf2onnx-1.17.0-py3-none-any.whl",
        sha256="64506e0ff12ddb21918b5659541577a4e9eec06d6bb1f2c7c4ebba5b09f30dba",
        tests="tests/keras2onnx_unit_tests/test_layers.py",
        wanted=172,
    ),
    "kerassurgeon": Suite(
        package="kerassurgeon",
        version="0.2.0",
        file="kerassurgeon-0.2.0.tar.gz",
        sha256="2794b4011a3c38ad4a1517e663fed5eb554fa1cd8a9f6a1c0ff993730c00c9e1",
        tests="kerassurgeon-0.2.0/tests/test_surgeon.py",
        wanted=143,
    ),
}


def fetched(suite: Suite, folder: Path) -> Path:
    """Return the suite's test file, its distribution downloaded, checked and unpacked into `folder`."""
    unpacked = folder / f"{suite.package}-{suite.version}-unpacked"
    archive = folder / suite.file
    if not archive.exists():
        download(suite, folder)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != suite.sha256:
        raise SystemExit(f"{archive} is not the file that this program was written for: delete it and run again")
    shutil.rmtree(unpacked, ignore_errors=True)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(unpacked, [name for name in opened.namelist() if name.startswith("tests/")])
    else:
        with tarfile.open(archive) as opened_tar:
            opened_tar.extractall(unpacked, filter="data")
    return unpacked / suite.tests


def download(suite: Suite, folder: Path) -> None:
    """Download one file from the configured index, by name, version and hash."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="secateur-") as name:
        wanted, poetry = Path(name) / "wanted.txt", Path(name) / "poetry" / "masonry"
        wanted.write_text(f"{suite.package}=={suite.version} --hash=sha256:{suite.sha256}\n")
        poetry.mkdir(parents=True)
        (poetry / "api.py").write_text(STAND_IN_FOR_POETRY)
        command = [*pip(), "download", "--no-deps", "--require-hashes", "-r", str(wanted), "-d", str(folder)]
        if not suite.file.endswith(".whl"):
            command += ["--no-binary", ":all:", "--no-build-isolation"]
        environment = with_modules_of(Path(name))
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"pip can't download {suite.package}: {(done.stderr or done.stdout).strip()[-600:]}")


def pip() -> list[str]:
    """Return this interpreter's pip, or the one on the PATH."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    found = shutil.which("pip") or shutil.which("pip3")
    if found is None:
        raise SystemExit("the suites are downloaded by pip, and there is none here: install it")
    return [found]


def child(*arguments: str, patience: float = PATIENCE_S) -> subprocess.CompletedProcess[str] | None:
    """Run the adapter's program in a separate process; None on timeout."""
    environment = with_modules_of(ROOT) | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(CHILD), *arguments]
    try:
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment, timeout=patience
        )
    except subprocess.TimeoutExpired:
        return None


def tests_of(name: str, file: Path) -> list[str]:
    """Return the tests' names, as pytest collects them."""
    done = child(name, str(file), "--list")
    if done is None or done.returncode:
        raise SystemExit(f"pytest can't collect {file}: {'' if done is None else (done.stdout + done.stderr)[-1500:]}")
    return list(json.loads(done.stdout.splitlines()[-1]))


def some_run(name: str, file: Path, tests: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return verdicts on the first of `tests`, at least one: all, or up to the one in which the process ended."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        wanted, written = Path(folder) / "tests.json", Path(folder) / "results.jsonl"
        wanted.write_text(json.dumps(list(tests)))
        done = child(name, str(file), "--run", str(wanted), "--results", str(written))
        lines = [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []
    found = {
        line["test"]: {"verdict": line["verdict"], "reason": line["reason"]} for line in lines if "verdict" in line
    }
    begun = [line["test"] for line in lines if line["test"] not in found]
    left = begun[-1] if begun else next((test for test in tests if test not in found), None)
    if left is not None:
        how = f"{PATIENCE_S} s passed" if done is None else f"the process ended with {done.returncode}"
        said = "" if done is None else " ".join(done.stderr.split())[-200:]
        found[left] = {"verdict": "wrong", "reason": f"{how} {said}"}
    return found


def suite_run(name: str, file: Path, results: Results, only: str) -> dict[str, dict[str, Any]]:
    """Return the verdict and its reason for each test of a suite; known ones are not run again."""
    tests = [test for test in tests_of(name, file) if fnmatchcase(test, only)]
    found = {test: results.get({"suite": name, "test": test}) for test in tests}
    waiting = [test for test in tests if found[test] is None]
    while waiting:
        for test, result in some_run(name, file, waiting[:CHUNK]).items():
            found[test] = result
            results.add({"suite": name, "test": test}, result)
        waiting = [test for test in tests if found[test] is None]
        print(f"{name}: {len(tests) - len(waiting)} of {len(tests)}", file=sys.stderr, flush=True)
    return {test: result for test, result in found.items() if result is not None}


def show(name: str, found: Mapping[str, Mapping[str, Any]], *, reasons: bool) -> Counter[str]:
    """Print the count of each verdict, which it returns; what is wrong; and why tests were refused."""
    counts = Counter(result["verdict"] for result in found.values())
    suite = SUITES[name]
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    print(f"{name} {suite.version}: {len(found)} tests: {told}")
    for verdict in ("wrong", "refused", "unasked"):
        why = {test: result["reason"] for test, result in found.items() if result["verdict"] == verdict}
        if reasons or verdict == "wrong":
            lines = [f"{verdict}: {test}: {reason}" for test, reason in why.items()]
        else:
            lines = [f"{verdict} {count:>3}: {reason}" for reason, count in Counter(why.values()).most_common()]
        print("".join(f"  {line}\n" for line in lines), end="")
    return counts


def without_keras(package: str) -> str:
    """Say how many of a package's test files mention Keras at all."""
    files = [file for file in metadata.files(package) or () if file.name.endswith("_test.py")]
    texts = [Path(str(file.locate())).read_text() for file in files]
    naming = sum("keras" in text for text in texts)
    return f"{package} {metadata.version(package)}: {len(files)} test files in its wheel, {naming} of them name Keras"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--suite", choices=SUITES, help="this one alone")
    parser.add_argument("--only", default="*", help="tests whose name matches")
    parser.add_argument("--reasons", action="store_true", help="each refused test with its reason")
    options = parser.parse_args()
    results, well = Results(options.work, Path(__file__), CHILD), True
    for name, suite in SUITES.items():
        if options.suite not in (None, name):
            continue
        found = suite_run(name, fetched(suite, options.work / "peers"), results, options.only)
        counts = show(name, found, reasons=options.reasons)
        enough = options.only != "*" or counts["passed"] >= suite.wanted
        well = well and enough and not counts["wrong"]
    for package in NO_KERAS:
        print(without_keras(package))
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
