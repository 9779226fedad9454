"""Installs what the device runner needs, from requirements.lock with its hashes, for any platform.

Standard library only:

python3 install_runner.py requirements.lock arm64 /opt/runner/site
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

NEEDED = ("ai-edge-litert", "flatbuffers", "ml-dtypes", "numpy", "onnxruntime", "protobuf", "tqdm", "typing-extensions")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # as Docker and as wheels call them
GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34)  # of the manylinux tags up to the base image's C library


def part_of(lock: str) -> str:
    """The entries of the packages that are needed; SystemExit where one is not there."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    found = {entry.partition("==")[0].strip(): entry for entry in entries if "==" in entry}
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise SystemExit(f"the lock has no {', '.join(missing)}")
    return "".join(found[name] for name in NEEDED)


def platform_options(architecture: str) -> list[str]:
    """Pip's options for wheels of CPython 3.11 on a machine that Docker calls `architecture`."""
    if architecture not in MACHINES:
        raise SystemExit(f"there is no runner for {architecture}: its runtimes have wheels for {', '.join(MACHINES)}")
    machine = MACHINES[architecture]
    tags = [f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS)]
    options = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
    return [*options, "--abi=cp311", "--abi=abi3", "--abi=none", *(f"--platform={tag}" for tag in tags)]


def main(lock: str, architecture: str, folder: str) -> int:
    """Pip's exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "runner.lock"
        wanted.write_text(part_of(Path(lock).read_text(encoding="utf-8")), encoding="utf-8")
        install = ["install", "--no-deps", "--no-compile", "--require-hashes", "--target", folder]
        command = [sys.executable, "-m", "pip", *install, *platform_options(architecture), "-r", str(wanted)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
