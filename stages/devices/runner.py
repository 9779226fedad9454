"""Load one model file, time its inferences, print one JSON document: the device runner.

This file and what opens models of each format (`opener.py` in the format's folder) go to a board as one archive
(`runner_file.py`): Python >= 3.9, numpy and one runtime, nothing else of this project and no TensorFlow. Invariants:
stdout carries exactly one JSON document, also when the model can't be read (`{"error": ...}`, exit status 1); what
runtimes print goes to stderr; times cover the inference call alone, and all of them are reported.

    python runner.py MODEL [--runtime NAME] [--seed N | --inputs FILE.npz] [--shape NAME=1,224,224,3]
                           [--threads N] [--affinity 0,1] [--seconds 0.1] [--min-iterations 20] [--warmup N]
                           [--sustained MINUTES] [--outputs]
    python runner.py MODEL --count N     N marked inferences for an emulator that counts instructions, no clock
    python runner.py ZIP --series        all model files of an archive in order: the median time of each (or --count)
    python runner.py MODEL --optimized   the graph that the runtime makes of a file here before it runs it, base64
    python runner.py --probe             what this device is and has
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gc
import hashlib
import importlib
import json
import os
import platform
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import DTypeLike, NDArray

SCHEMA_VERSION = 1
STEADY_WITHIN = 0.05  # two warm-up blocks whose medians differ by less are steady
HEAD_BYTES = 1024  # of a file, by which its format is recognized
# Otherwise ONNX Runtime >= 1.29 looks up hosts and writes under the home directory.
NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1"}
SUSTAINED_PARTS = 60  # a sustained measurement reports its throughput in this many equal parts of its time
CLOCK_JUMP_S = 1.0  # tolerated difference between the wall clock and the monotonic clock
THROTTLED_BELOW = 0.9  # a processor that ends below this share of its first frequency was throttled
# Marks for an emulator: closing a nonexistent file. On a real system this does nothing.
MARK_EMPTY, MARK_BEGIN, MARK_END = 0x5EC00001, 0x5EC00002, 0x5EC00003
MARKED_EMPTY = 3  # regions without inference: what the marks themselves cost
COUNT_WARMUP = 10  # Python makes its own bytecode cheaper over the first eight calls


class Session(NamedTuple):
    """Hold a loaded model: what it takes, and how to feed it, run it and read its results."""

    version: str
    import_ms: float
    load_ms: float
    inputs: list[tuple[tuple[int, ...], str]]  # (shape, dtype), a free batch as 1
    output_names: list[str]
    feed: Callable[[list[Any]], None]
    invoke: Callable[[], Any]
    read: Callable[[], list[Any]]
    delegates: list[str]  # what the runtime computes with


def openers() -> dict[str, ModuleType]:
    """Return what opens models, by runtime name: the modules packed with this one (`runner_file.py`)."""
    packed = importlib.import_module("openers")
    modules = [importlib.import_module(f"openers.{name}") for name in packed.NAMES]
    return {module.RUNTIME: module for module in modules}


def opener_of(options: argparse.Namespace) -> ModuleType:
    """Return the named opener, or else the one that recognizes the file by its first bytes, whatever its name."""
    known = openers()
    if options.runtime:
        if options.runtime not in known:
            raise ValueError(f"there is no runtime {options.runtime}: here are {', '.join(known)}")
        return known[options.runtime]
    with Path(options.model).open("rb") as file:
        head = file.read(HEAD_BYTES)
    for opener in known.values():
        if opener.recognises(head):
            return opener
    raise ValueError(f"the file is not a model of {' or '.join(known)}: it begins with {head[:16]!r}")


def seeded_inputs(specs: list[tuple[tuple[int, ...], str]], seed: int) -> list[NDArray[Any]]:
    """Return one random array per (shape, dtype), the same on every machine.

    Floats are uniform in [-1, 1), 8- and 16-bit integers use their full range. Wider integers are indices into tables
    whose size nobody states, so they are 0 or 1.
    """
    import numpy as np

    generator = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        kind = np.dtype(dtype)
        if kind.kind == "f":
            return generator.uniform(-1.0, 1.0, shape).astype(kind)
        if kind.kind in "iu" and kind.itemsize <= 2:
            limits = np.iinfo(kind)
            return generator.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
        if kind.kind in "iub":
            return generator.integers(0, 2, shape).astype(kind)
        raise ValueError(f"inputs of type {dtype} can't be drawn at random")

    return [draw(shape, dtype) for shape, dtype in specs]


def warm_up(invoke: Callable[[], Any], block: int, limit_s: float) -> tuple[int, bool]:
    """Run blocks of `block` calls until two in a row take the same time, or `limit_s` have passed.

    Returns how many calls were made, and whether they had become steady.
    """
    began = time.perf_counter()
    before, calls = _median(_times_ns(invoke, 0.0, block)), block
    while True:
        now = _median(_times_ns(invoke, 0.0, block))
        calls += block
        if abs(now - before) <= STEADY_WITHIN * before:
            return calls, True
        if time.perf_counter() - began > limit_s:
            return calls, False
        before = now


def open_model(options: argparse.Namespace) -> tuple[str, Session]:
    """Return the runtime's name and the model, loaded and fed."""
    opener = opener_of(options)
    runtime, session = opener.RUNTIME, opener.open_model(options.model, options, sys.modules[__name__])
    session.feed(_given_inputs(options.inputs) if options.inputs else seeded_inputs(session.inputs, options.seed))
    return runtime, session


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure one process with one model; returns the keys of the JSON document."""
    before = device_state()
    began_wall, began_s = time.time(), time.monotonic()
    runtime, session = open_model(options)
    began = time.perf_counter()
    session.invoke()
    first_inference_ms = 1e3 * (time.perf_counter() - began)
    outputs = session.read()
    gc.collect()
    # A collection in the middle of an inference would be measured as the runtime's.
    gc.disable()
    warmup_calls, steady = warm_up(session.invoke, options.warmup, options.seconds)
    samples = _times_ns(session.invoke, options.seconds, options.min_iterations)
    throughput = sustained(session.invoke, 60 * options.sustained) if options.sustained else []
    gc.enable()
    after, jump_s = device_state(), abs((time.time() - began_wall) - (time.monotonic() - began_s))
    return {
        "schema_version": SCHEMA_VERSION,
        "runtime": runtime,
        "runtime_version": session.version,
        "import_ms": session.import_ms,
        "load_ms": session.load_ms,
        "first_inference_ms": first_inference_ms,
        "warmup_calls": warmup_calls,
        "steady": steady,
        "samples_ns": samples,
        "throughput_per_s": throughput,
        "peak_memory_bytes": peak_memory_bytes(),
        "threads": options.threads,
        "affinity": _affinity(),
        "delegates": session.delegates,
        "seed": options.seed,
        "outputs": [described(*pair, options.outputs) for pair in zip(session.output_names, outputs)],  # noqa: B905 - Python 3.9
        "cpu_model": cpu_model(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": importlib.import_module("numpy").__version__,
        "device_before": before,
        "device_after": after,
        "notes": [*device_notes(before, after, jump_s), *thread_notes(options.threads)],
    }


def mark(number: int) -> None:
    """Tell an emulator that a region begins or ends."""
    with contextlib.suppress(OSError):
        os.close(number)


def count(options: argparse.Namespace) -> dict[str, Any]:
    """Run marked inferences. The first regions are empty: they hold what marking costs and no more."""
    runtime, session = open_model(options)
    session.invoke()
    outputs = session.read()
    gc.collect()
    gc.disable()
    for _ in range(COUNT_WARMUP):
        session.invoke()
    mark_calls(MARK_EMPTY, _nothing, MARKED_EMPTY)
    mark_calls(MARK_BEGIN, session.invoke, options.count)
    return {
        "schema_version": SCHEMA_VERSION,
        "runtime": runtime,
        "runtime_version": session.version,
        "cpu_model": cpu_model(),
        "machine": platform.machine(),
        "outputs": [described(*pair, options.outputs) for pair in zip(session.output_names, outputs)],  # noqa: B905 - as above
    }


def mark_calls(begin: int, call: Callable[[], Any], times: int) -> None:
    """Make `times` calls, each between marks."""
    for _ in range(times):
        mark(begin)
        call()
        mark(MARK_END)


def _nothing() -> None:
    """Do nothing, for an empty region."""


def series(options: argparse.Namespace) -> dict[str, Any]:
    """Run all models of an archive, one after another in this process: each one's median time, or marked calls."""
    medians, runtime, version = [], "", ""
    if options.count:
        mark_calls(MARK_EMPTY, _nothing, MARKED_EMPTY)
    with zipfile.ZipFile(options.model) as archive, tempfile.TemporaryDirectory() as folder:
        for name in archive.namelist():
            options.model = archive.extract(name, folder)
            runtime, session = open_model(options)
            version = session.version
            for _ in range(COUNT_WARMUP):
                session.invoke()
            gc.collect()
            gc.disable()
            if options.count:
                mark_calls(MARK_BEGIN, session.invoke, options.count)
            else:
                medians.append(_median(_times_ns(session.invoke, options.seconds, options.min_iterations)))
            gc.enable()
            # At once: some hundred models need not fit on a board's disk together.
            os.unlink(options.model)  # noqa: PTH108 - a str
    return {
        "schema_version": SCHEMA_VERSION,
        "runtime": runtime,
        "runtime_version": version,
        "medians_ns": medians,
        "cpu_model": cpu_model(),
        "machine": platform.machine(),
    }


def optimized(options: argparse.Namespace) -> dict[str, Any]:
    """Return the graph that the runtime makes of a file on this processor: with `--as-is` it runs like the file."""
    opener = opener_of(options)
    if not hasattr(opener, "optimized"):
        raise ValueError(f"{opener.RUNTIME} shows no graph that it has optimized")
    version, data = opener.optimized(options.model, options, sys.modules[__name__])
    return {
        "schema_version": SCHEMA_VERSION,
        "runtime": opener.RUNTIME,
        "runtime_version": version,
        "optimized": base64.b64encode(data).decode(),
    }


def probe() -> dict[str, Any]:
    """Describe this device and what it has; a missing runtime or numpy is null."""
    modules = {"numpy": ("numpy",), **{name: opener.MODULES for name, opener in openers().items()}}
    os.environ.update(NO_TELEMETRY)
    description: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "runtimes": list(openers())}
    for name, names in modules.items():
        try:
            description[name] = str(first_import(names, "").__version__)
        except Exception:  # noqa: BLE001 - a runtime that breaks on import is none
            description[name] = None
    disk = os.statvfs(".")
    return {
        **description,
        "cpu_model": cpu_model(),
        "cores": os.cpu_count() or 1,
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "device": device_state(),
    }


def sustained(invoke: Callable[[], Any], seconds: float) -> list[float]:
    """Return inferences per second in equal parts of `seconds`, back to back: heat shows as a falling series."""
    part_s, rates = seconds / SUSTAINED_PARTS, []
    for _ in range(SUSTAINED_PARTS):
        began, calls = time.perf_counter(), 0
        while time.perf_counter() - began < part_s or not calls:
            invoke()
            calls += 1
        rates.append(calls / (time.perf_counter() - began))
    return rates


def device_state() -> dict[str, Any]:
    """Return governor, frequency in kHz and temperature in °C, as far as the system reports them; else null."""
    # Of a processor that this process may use: big and little cores of one board run at different frequencies.
    cpu = f"/sys/devices/system/cpu/cpu{(_affinity() or [0])[0]}/cpufreq/"
    frequency, zones = (
        _text_of(cpu + "scaling_cur_freq").strip(),
        sorted(Path("/sys/class/thermal").glob("thermal_zone*")),
    )
    degrees = [text for zone in zones for text in [_text_of(str(zone / "temp")).strip()] if text.lstrip("-").isdigit()]
    return {
        "governor": _text_of(cpu + "scaling_governor").strip() or None,
        "frequency_khz": int(frequency) if frequency.isdigit() else None,
        "temperature_c": max((int(text) / 1000 for text in degrees), default=None),
    }


def device_notes(before: dict[str, Any], after: dict[str, Any], clock_jump_s: float) -> list[str]:
    """Describe what makes times of this process doubtful."""
    notes = []
    if clock_jump_s > CLOCK_JUMP_S:
        notes.append(f"the device's clock jumped by {clock_jump_s:.1f} s")
    first, last = before["frequency_khz"], after["frequency_khz"]
    if first and last and last < THROTTLED_BELOW * first:
        notes.append(f"the processor went from {first // 1000} to {last // 1000} MHz: it was throttled")
    return notes


def thread_notes(threads: int) -> list[str]:
    """Warn about too many threads: waiting for each other makes times long and irregular."""
    processors = len(_affinity()) or os.cpu_count() or 1
    return [f"{threads} threads share {processors} processors"] if threads > processors else []


def _affinity() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []  # macOS has no such call


def peak_memory_bytes() -> int:
    """Return this process' peak resident memory, the interpreter and the runtime included.

    Uses VmHWM on Linux: `ru_maxrss` survives exec there, so that a child of a large process starts with the parent's
    peak as its own.
    """
    for line in _text_of("/proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)


def cpu_model() -> str:
    """Return the name of this machine's processor, from the system's own description; never empty."""
    if sys.platform == "darwin":
        import subprocess

        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return name or platform.machine()
    return parse_cpuinfo(_text_of("/proc/cpuinfo")) or platform.processor() or platform.machine() or "unknown"


def parse_cpuinfo(text: str) -> str:
    """Return the processor's name in the text of `/proc/cpuinfo`, or "" if it has none.

    ARM kernels give numbers for a name (`0x41/0xd08` is a Cortex-A72); different cores are all named, in order.
    """
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), []).append(value.strip())
    if "model name" in fields:
        return " + ".join(dict.fromkeys(fields["model name"]))
    cores = zip(fields.get("CPU implementer", []), fields.get("CPU part", []))  # noqa: B905 - Python 3.9 has no strict
    return " + ".join(dict.fromkeys("/".join(core) for core in cores))


def _times_ns(invoke: Callable[[], Any], seconds: float, least: int) -> list[int]:
    """Return the time of each call in nanoseconds: at least `least` calls, and as many as fit into `seconds`."""
    # Local names, so that Python does as little as possible between the two readings.
    clock, budget, spent = time.perf_counter_ns, seconds * 1e9, 0
    samples: list[int] = []
    while spent < budget or len(samples) < least:
        began = clock()
        invoke()
        sample = clock() - began
        samples.append(sample)
        spent += sample
    return samples


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


def described(name: str, array: NDArray[Any], with_values: bool) -> dict[str, Any]:
    """Describe one output with the digest of its bytes, and the bytes too if requested."""
    data = array.tobytes()
    description = {
        "name": name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    if with_values:
        description["base64"] = base64.b64encode(data).decode("ascii")
    return description


def first_import(names: tuple[str, ...], install: str) -> ModuleType:
    """Import the first of these modules that exists; ImportError names them all, and the command that installs one."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(f"none of these is installed: {', '.join(names)}; on the device: {install}")


def dtype_name(dtype: DTypeLike) -> str:
    """Return a type's name in numpy."""
    import numpy as np

    return str(np.dtype(dtype))


def shape_of(name: str, shape: list[Any], given: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape to run an input at: as given, else as in the file with a free batch of 1."""
    fixed = [int(size) if not isinstance(size, str) and size is not None and size > 0 else None for size in shape]
    wanted = given.get(name, given.get(""))
    if wanted is not None:
        return wanted
    if None in fixed[1:]:
        shown = ",".join("?" if size is None else str(size) for size in fixed)
        raise ValueError(f"input {name} has free dimensions ({shown}): give them with --shape {name}={shown}")
    return tuple(size or 1 for size in fixed)


def require_inputs(given: dict[str, tuple[int, ...]], names: list[str]) -> None:
    """Raise ValueError on a shape for a missing input, which would silently measure at another shape."""
    unknown = [name for name in given if name and name not in names]
    if unknown:
        raise ValueError(f"--shape {unknown[0]}={listed(given[unknown[0]])}: the inputs are {', '.join(names)}")


def listed(shape: Iterable[int]) -> str:
    """Format a shape as `--shape` takes it."""
    return ",".join(str(int(size)) for size in shape)


def shapes_given(given: list[str]) -> dict[str, tuple[int, ...]]:
    """Parse `NAME=1,224,224,3`, or `1,224,224,3` for whatever the input is called."""
    parts = [text.rpartition("=")[::2] for text in given]
    return {name: tuple(int(size) for size in sizes.split(",")) for name, sizes in parts}


def _given_inputs(path: str) -> list[NDArray[Any]]:
    import numpy as np

    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="runner.py", description="Time the inferences of one model file.")
    parser.add_argument("model", nargs="?", help="a model file, whatever its name")
    parser.add_argument("--probe", action="store_true", help="tell what this device is and has, and end")
    parser.add_argument("--count", type=_positive, help="make so many marked inferences, and time none")
    parser.add_argument("--series", action="store_true", help="MODEL is a zip file of models: go through all of them")
    parser.add_argument("--optimized", action="store_true", help="print the graph that the runtime makes of MODEL")
    parser.add_argument("--as-is", action="store_true", help="optimize no graph: it was optimized before")
    parser.add_argument("--inputs", help="an .npz file with the inputs in order, in place of random ones")
    parser.add_argument("--shape", action="append", default=[], help="NAME=1,224,224,3 for inputs of free size")
    parser.add_argument("--affinity", help="the processors to stay on, such as 0,1")
    parser.add_argument("--sustained", type=float, default=0.0, metavar="MINUTES", help="also throughput over time")
    parser.add_argument("--runtime", help="by its name in what --probe tells (default: by the file's content)")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default 0)")
    parser.add_argument("--threads", type=_positive, default=1, help="for the runtime's kernels (default 1)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of samples to take (default 0.1)")
    parser.add_argument("--min-iterations", type=_positive, default=20, help="samples to take at least (default 20)")
    parser.add_argument("--warmup", type=_positive, default=5, help="calls in a warm-up block (default 5)")
    parser.add_argument("--outputs", action="store_true", help="also give the outputs themselves, base64")
    options = parser.parse_args(arguments)
    if options.model is None and not options.probe:
        parser.error("a model file is needed")
    return options


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Return the requested document."""
    if options.probe:
        return probe()
    if options.affinity:
        # Before the runtime is loaded: threads inherit it when they are started.
        os.sched_setaffinity(0, [int(number) for number in options.affinity.split(",")])
    if options.series:
        return series(options)
    if options.optimized:
        return optimized(options)
    return count(options) if options.count else measure(options)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the JSON document, return the exit status."""
    options = _options(arguments)
    # Runtimes may print: while they run, file descriptor 1 is stderr, and the real stdout is kept for the document.
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        document, status = run(options), 0
    except Exception as error:  # noqa: BLE001 - runtimes raise whatever they like; the caller wants one document
        document, status = {"schema_version": SCHEMA_VERSION, "error": f"{type(error).__name__}: {error}"}, 1
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
