"""Check the installation (`secateur doctor`): what is installed, what is missing, how to fix it. Imports none of it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.contracts.discovery import stages
from pipeline.errors import SecateurError
from pipeline.reports.command_lines import SURGEON, install, install_locked, install_optional, install_ourselves
from pipeline.system.installed import optional_requirements, package_version

PACKAGES = (
    "tensorflow",
    "tf-keras",
    "numpy",
    "h5py",
    "kerassurgeon",
    "importlib-metadata",
    "tensorflow-model-optimization",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "ai-edge-quantizer",
)
FREE_BYTES_WANTED = 2 * 10**9


@dataclass(frozen=True, slots=True)
class Finding:
    """Report one check: whether it passed, what was found, and what to do if it failed.

    What is not `needed` may be absent: only some formats and targets use it.
    """

    name: str
    ok: bool
    seen: str
    hint: str = ""
    needed: bool = True


def command(store: StoreOption = None, as_json: JsonOption = False) -> None:
    packages = [_package(name, _repair(name)) for name in PACKAGES]
    optional = [_package(name, install_optional(name), needed=False) for name in optional_requirements()]
    findings = [_python(), *packages, *optional, _stages(), *_store(store), _cpus()]
    well = all(finding.ok or not finding.needed for finding in findings)
    if as_json:
        document = {"schema_version": 1, "ok": well, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(document, ensure_ascii=False, indent=1))
    else:
        for finding in findings:
            print(f"{'✔' if finding.ok else '✘' if finding.needed else '·'} {finding.name:30} {finding.seen}")
            if not finding.ok:
                print(f"  {finding.hint}")
    if not well:
        raise typer.Exit(SecateurError.exit_code)


def _python() -> Finding:
    return Finding("python", sys.version_info >= (3, 11), platform.python_version(), "Python 3.11 or newer is needed")


def _package(name: str, hint: str, *, needed: bool = True) -> Finding:
    version = package_version(name)
    absent = version == "absent"
    return Finding(name, not absent, "absent; optional" if absent and not needed else version, hint, needed)


def _repair(name: str) -> str:
    """Return the command that installs a package that everything needs."""
    return install(*SURGEON) if name in ("kerassurgeon", "importlib-metadata") else install_locked()


def _stages() -> Finding:
    try:
        names = sorted(stages())
    except SecateurError as error:
        return Finding("stages", ok=False, seen=error.what, hint=error.hint or "")
    return Finding("stages", bool(names), ", ".join(names), install_ourselves())


def _store(path: Path | None) -> list[Finding]:
    try:
        root = open_store(path).root
    except SecateurError as error:
        return [Finding("store", ok=False, seen=error.what, hint=error.hint or "")]
    # The store may not exist yet, and looking must not create it: what counts is the folder that would hold it.
    folder = next(parent for parent in (root, *root.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            writable = True
    except OSError:
        writable = False
    free = shutil.disk_usage(folder).free
    return [
        Finding("store", writable, str(root), "no permission to write there: give another --store"),
        Finding("free disk", free >= FREE_BYTES_WANTED, f"{free / 1e9:.1f} GB", "free some space, or move the store"),
    ]


def _cpus() -> Finding:
    # A container or `taskset` may give this process fewer CPUs than the machine has.
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cpus", count >= 1, f"{count} × {platform.machine()}")
