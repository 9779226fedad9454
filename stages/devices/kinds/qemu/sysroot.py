"""Build the aarch64 system that `qemu` targets run: Debian's packages, runtimes' wheels and QEMU, in the user's cache.

Nothing is installed on this machine and no root is needed: apt works with a private configuration and state, on the
machine's package sources; packages are unpacked, not installed. apt checks signatures and pip checks hashes;
`lock.json` records what was downloaded with its sha256. A system is built next to its place and moved there whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from pipeline.errors import DeviceError
from pipeline.records.keys import digest_of, digest_of_bytes, digest_of_file
from pipeline.reports.command_lines import base_python
from pipeline.system.installed import package_version
from stages.devices.target import Say

GUEST_PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
HOST_PACKAGE = "qemu-user"  # the dynamic build: the static one has no plugins
WHEELS = ("ai-edge-litert", "onnxruntime", "numpy", "flatbuffers", "ml-dtypes", "protobuf", "tqdm", "typing-extensions")
GUEST_PYTHON = (
    "--implementation",
    "cp",
    "--python-version",
    "3.11",
    "--abi",
    "cp311",
    "--abi",
    "abi3",
    "--abi",
    "none",
)
# With `--platform` pip takes the named tags only: a wheel for an older glibc is not found under a newer one's tag.
PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in (17, 24, 26, 27, 28, 31, 34)))
PLUGIN_SOURCE = Path(__file__).parent / "plugin" / "count_instructions.c"
LOCK_FILE = "lock.json"
# Two architectures: the guest's, and that of QEMU. Without a sandbox user, since apt run by root would download as
# `_apt`, and that user can't enter a private temporary folder.
APT_CONFIGURATION = """
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
"""


def targets_folder() -> Path:
    """Return the folder of targets that were set up."""
    return Path(platformdirs.user_cache_path("secateur")) / "targets"


def system_folder() -> Path:
    """Return the system's folder: one for every core, and one for each plugin and each set of runtime versions."""
    wanted = {name: package_version(name) for name in WHEELS} | {"plugin": digest_of_bytes(PLUGIN_SOURCE.read_bytes())}
    return targets_folder() / f"aarch64-{digest_of('sysroot', wanted)[7:19]}"


def read_lock() -> dict[str, Any] | None:
    """Return what the system was made of, or None if there is none."""
    try:
        return json.loads((system_folder() / LOCK_FILE).read_bytes())  # type: ignore[no-any-return]
    except (OSError, ValueError):
        return None


def ensure_system(say: Say) -> Path:
    """Return the system's folder, built if it does not exist. Raises DeviceError."""
    folder = system_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if read_lock() is None:
            _need_programs()
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as building:
                _build(Path(building), say)
                shutil.rmtree(folder, ignore_errors=True)
                (Path(building) / "system").replace(folder)
    return folder


def emulator(folder: Path) -> list[str]:
    """Return QEMU's command line, with the loader and the libraries that came with it."""
    host = folder / "host"
    libraries = ":".join(str(host / part / "x86_64-linux-gnu") for part in ("lib", "usr/lib"))
    loader = host / "lib" / "x86_64-linux-gnu" / "ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", libraries, str(host / "usr/bin/qemu-aarch64")]


def _need_programs() -> None:
    if os.uname().machine != "x86_64":
        raise DeviceError(f"counting instructions works on x86-64 machines, and this is {os.uname().machine}")
    packages = {"apt-get": "apt", "dpkg-deb": "dpkg", "cc": "gcc"}
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    if missing:
        what = f"setting up needs {', '.join(missing)}, which this machine has not"
        raise DeviceError(what, hint="on Debian: apt-get install gcc; elsewhere use a Debian 12 container")


def _build(building: Path, say: Say) -> None:
    system = building / "system"
    say("fetching Debian's packages for arm64 and QEMU")
    packages = _fetch_packages(building / "apt")
    system.mkdir()
    for package in packages:
        _run(["dpkg-deb", "-x", str(package), str(system / ("host" if package.stem.endswith("_amd64") else "root"))])
    _link_merged_folders(system / "root")
    say("fetching the runtimes' wheels for aarch64")
    wheels = _fetch_wheels(building / "wheels", system / "site")
    say("building the counting plugin")
    flags = ("-O2", "-shared", "-fPIC", "-fvisibility=hidden")
    _run(["cc", *flags, "-o", str(system / "count_instructions.so"), str(PLUGIN_SOURCE)])
    lock = {
        "packages": {path.name: digest_of_file(path) for path in packages},
        "wheels": {path.name: digest_of_file(path) for path in wheels},
        "plugin": digest_of_file(PLUGIN_SOURCE),
    }
    (system / LOCK_FILE).write_text(json.dumps(lock, indent=1, sort_keys=True))


def _fetch_packages(folder: Path) -> list[Path]:
    """Download the packages of the guest and of QEMU with all dependencies, from the machine's package sources."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    # Empty: by the machine's own status file, apt would leave out what is installed here already.
    (folder / "state" / "status").touch()
    (folder / "apt.conf").write_text(APT_CONFIGURATION.format(folder=folder))
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    wanted = [*GUEST_PACKAGES, f"{HOST_PACKAGE}:amd64"]
    _run(["apt-get", "update"], environment)
    _run(["apt-get", "install", "--download-only", "--yes", "--no-install-recommends", *wanted], environment)
    archives = sorted((folder / "cache" / "archives").glob("*.deb"))
    # Debian 12's is the build that loads plugins: qemu-user-static does not, nor do the builds of 10.x.
    if not any(path.name.startswith(f"{HOST_PACKAGE}_1%3a7.2") for path in archives):
        what = "this machine's package sources hold no qemu-user 7.2, whose plugins count instructions"
        raise DeviceError(what, hint="set it up in a Debian 12 container")
    return archives


def _link_merged_folders(root: Path) -> None:
    """Link `/bin` and `/lib`, which programs use; packages unpack into them or under `/usr`."""
    for name in ("bin", "lib"):
        link = root / name
        if not link.exists():
            link.symlink_to(f"usr/{name}")


def _fetch_wheels(folder: Path, site: Path) -> list[Path]:
    """Download the wheels of this environment's versions and unpack them into `site`."""
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    wanted = [f"{name}=={package_version(name)}" for name in WHEELS]
    pip = [_python_with_pip(), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    choice = ["--no-deps", "--only-binary=:all:", *GUEST_PYTHON, *platforms]
    _run([*pip, "download", *choice, "--dest", str(folder), *wanted])
    wheels = sorted(folder.glob("*.whl"))
    # From the files just downloaded, which are those that the lock names.
    _run([*pip, "install", *choice, "--no-index", "--target", str(site), *map(str, wheels)])
    return wheels


def _python_with_pip() -> str:
    """Return this interpreter, or the one that its environment was made with: environments often lack pip.

    Reads the metadata: looking for the module makes setuptools replace distutils, with a warning.
    """
    # Not `python3`: in an activated environment that is the one without pip.
    return sys.executable if any(distributions(name="pip")) else base_python()


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        output = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise DeviceError(f"{' '.join(command[:3])} … failed with exit status {done.returncode}", hint=output)
