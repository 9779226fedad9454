"""Run one process on an emulated Cortex core: describe its processor to it, and count its instructions.

Runtimes choose their kernels by the core that they find, so the emulated processor and `/proc/cpuinfo` name the same
one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import DeviceError, SecateurError
from pipeline.system.processes import TIMEOUT_S, require_success, run_process
from stages.devices.counts import Counts
from stages.devices.kinds.qemu.sysroot import emulator, system_folder, targets_folder
from stages.devices.measurement import digests_of
from stages.devices.runner_file import runner_file
from stages.devices.target import Target
from stages.formats.registry import files_beside

CLASSES = ("load_store", "simd", "branch", "integer")
MARKED_CALLS = 3
COUNTS = "counts"  # the plugin's file
# ONNX Runtime's telemetry and OpenBLAS would start threads, and counts are exact for one virtual CPU only. The order of
# Python's hashes changes how many instructions it takes.
ENVIRONMENT = {
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "ORT_DISABLE_TELEMETRY": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}


Spreads = Mapping[str, Mapping[str, float]]  # by runtime: `absolute` in instructions, `relative` as a share


class Core(NamedTuple):
    """Describe a core: MIDR fields, optional instructions, and the L2 cache of a typical chip."""

    variant: int
    part: int
    revision: int
    features: str
    l2_kib: int


BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
CORES = {
    "cortex-a53": Core(0, 0xD03, 4, BASE, 512),
    "cortex-a72": Core(0, 0xD08, 3, BASE, 1024),
    "cortex-a76": Core(4, 0xD0B, 1, f"{BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp", 512),
}


class Region(NamedTuple):
    """Hold the instructions between two marks: all, and by class."""

    total: int
    classes: tuple[int, ...]


def count_once(
    target: Target,
    model: Path,
    name: str,
    spreads: Spreads,
    *,
    shapes: Sequence[str] = (),
    with_outputs: bool = False,
) -> Counts:
    """Count in one emulated process: the minimum over marked calls, minus the cost of the marks. Raises DeviceError."""
    options = [word for shape in shapes for word in ("--shape", shape)]
    options += ["--outputs"] if with_outputs else []
    document, regions = run_emulated(target, model, options, name, files_beside(model))
    return _counts(target, document, regions, spreads)


def run_emulated(
    target: Target, model: Path, options: Sequence[str], name: str, beside: Sequence[Path] = ()
) -> tuple[dict[str, Any], dict[str, list[Region]]]:
    """Return the runner's document of one emulated process, and the counts; large data is given as `beside`."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as scratch:
        counting = ["--count", str(MARKED_CALLS), *options]
        document = _emulated(target, model, counting, name, beside, Path(scratch))
        return document, read_regions(Path(scratch) / COUNTS, name)


def document_emulated(target: Target, model: Path, options: Sequence[str], name: str) -> dict[str, Any]:
    """Return the runner's document of one emulated process in which nothing is counted."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as scratch:
        return _emulated(target, model, options, name, files_beside(model), Path(scratch))


def _emulated(
    target: Target, model: Path, options: Sequence[str], name: str, beside: Sequence[Path], scratch: Path
) -> dict[str, Any]:
    system = system_folder()
    # Use the same name for every model: the guest sees its command line. Files that a model may name freely never lie
    # where Python looks for modules.
    file = "files/model" if beside else "model"
    (scratch / file).parent.mkdir(exist_ok=True)
    for path in beside:
        shutil.copyfile(path, scratch / "files" / path.name)
    shutil.copyfile(model, scratch / file)
    shutil.copyfile(runner_file(), scratch / "runner.py")
    python = [str(system / "root/usr/bin/python3.11"), "-S", "runner.py", file, *options]
    plugin = f"file={system / 'count_instructions.so'},out={scratch / COUNTS}"
    command = [*emulator(system), "-L", str(root_of(target)), "-cpu", _cpu(target), "-plugin", plugin, *python]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(system / "site")}
    # In the scratch folder, so that the guest's command line has relative names, which are the same in every run.
    done = run_process(["env", "-C", str(scratch), *command], name, TIMEOUT_S, environment)
    require_success(done, name, target.name, "can't run this model")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _counts(target: Target, document: dict[str, Any], regions: dict[str, list[Region]], spreads: Spreads) -> Counts:
    empty, call = min(regions["empty"]), min(regions["call"])
    metrics = {"instructions": float(call.total - empty.total)}
    for index, name in enumerate(CLASSES):
        # Not below 0: the least region by total need not have the least of each class.
        metrics[f"instructions_{name}"] = float(max(0, call.classes[index] - empty.classes[index]))
    runtime = document["runtime"]
    return Counts(
        target=target.name,
        runtime=f"{runtime} {document['runtime_version']}",
        metrics=metrics,
        main="instructions",
        spread=min(1.0, max(spreads[runtime]["relative"], spreads[runtime]["absolute"] / metrics["instructions"])),
        estimated=False,
        outputs=digests_of(document["outputs"]),
    )


def read_regions(file: Path, name: str) -> dict[str, list[Region]]:
    """Read what the plugin wrote; DeviceError if it is incomplete or more than one virtual CPU ran."""
    regions: dict[str, list[Region]] = {"empty": [], "call": []}
    vcpus = None
    for line in file.read_text().splitlines():
        kind, *numbers = line.split()
        if kind == "vcpus":
            vcpus = int(numbers[0])
        else:
            total, *classes = map(int, numbers)
            regions[kind].append(Region(total, tuple(classes)))
    if vcpus != 1:
        what = f"the emulated runner used {vcpus or 'an unknown number of'} virtual CPUs: counts are exact for one only"
        raise DeviceError(what, where=name)
    if not regions["empty"] or not regions["call"] or len(regions["call"]) % MARKED_CALLS:
        raise DeviceError("the emulated runner ended before all of its inferences were counted", where=name)
    return regions


def root_of(target: Target) -> Path:
    """Return the folder that the guest sees as its root."""
    return targets_folder() / "cores" / f"{target.settings.core}-{l2_kib(target)}"


def l2_kib(target: Target) -> int:
    return target.settings.l2_kib or CORES[target.settings.core].l2_kib


def _cpu(target: Target) -> str:
    return str(target.settings.core)


def make_root(target: Target, system: Path) -> None:
    """Make the guest's root: the shared system by links, and separate /proc/cpuinfo and /sys."""
    # The emulator alone shows the host's files. LiteRT 2.3.0 and ONNX Runtime 1.31.1 hold a library, cpuinfo, that
    # finds no `CPU implementer` in an x86 /proc/cpuinfo and follows a null pointer.
    root, core = root_of(target), CORES[target.settings.core]
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for entry in (system / "root").iterdir():
        (root / entry.name).symlink_to(entry)
    cpu = "sys/devices/system/cpu"
    files = {
        "proc/cpuinfo": (
            f"processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: {core.features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: {core.variant:#x}\nCPU part\t: {core.part:#x}\n"
            f"CPU revision\t: {core.revision}\n\n"
        ),
        **{f"{cpu}/{name}": "0\n" for name in ("possible", "present", "online", "kernel_max")},
        **{f"{cpu}/cpu0/topology/{name}": "0\n" for name in ("core_id", "physical_package_id", "cluster_id")},
        **{f"{cpu}/cpu0/topology/{name}_list": "0\n" for name in ("core_siblings", "thread_siblings", "core_cpus")},
        f"{cpu}/cpu0/cache/index2/level": "2\n",
        f"{cpu}/cpu0/cache/index2/type": "Unified\n",
        # Named and not the host's: float32 kernels tile by this size, and so take another number of instructions.
        f"{cpu}/cpu0/cache/index2/size": f"{l2_kib(target)}K\n",
        f"{cpu}/cpu0/cache/index2/shared_cpu_list": "0\n",
    }
    for name, text in files.items():
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            raise SecateurError(f"the target's system can't be written: {error}", where=str(path)) from error
