"""The device runner: loads one model file, times its inferences, prints one JSON document.

This file goes to a board as it is: Python >= 3.9, numpy and one runtime (ai_edge_litert or tflite_runtime for
TFLite, onnxruntime for ONNX), nothing else of this project and no TensorFlow. What always holds: stdout carries
exactly one JSON document, also when the model can't be read (`{"error": ...}`, exit status 1); what runtimes print
goes to stderr; times are of the inference call alone, and all of them are given.

    python runner.py MODEL [--runtime litert|onnxruntime] [--seed N] [--threads N] [--seconds 0.1]
                           [--min-iterations 20] [--warmup N] [--outputs]
"""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA_VERSION = 1
STEADY_WITHIN = 0.05  # two warm-up blocks whose medians differ by less are steady
LITERT_MODULES = ("ai_edge_litert", "tflite_runtime")
ONNX_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # the others are called as in numpy


class Session(NamedTuple):
    """A loaded model: what it takes, and how to feed it, run it and read its results."""

    version: str
    import_ms: float
    load_ms: float
    inputs: list[tuple[tuple[int, ...], str]]  # (shape, dtype), free dimensions as 1
    output_names: list[str]
    feed: Callable[[list[Any]], None]
    invoke: Callable[[], Any]
    read: Callable[[], list[Any]]


def detect_runtime(path: str) -> str:
    """`litert` for a TFLite file (`TFL3` at bytes 4 to 8), else `onnxruntime`; the name of the file plays no part."""
    with Path(path).open("rb") as file:
        head = file.read(8)
    return "litert" if head[4:8] == b"TFL3" else "onnxruntime"


def open_litert(path: str, threads: int) -> Session:
    """A TFLite file in LiteRT, its tensors allocated."""
    began = time.perf_counter()
    package = _first_import(LITERT_MODULES)
    interpreter_type = importlib.import_module(package.__name__ + ".interpreter").Interpreter
    imported = time.perf_counter()
    interpreter = interpreter_type(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    loaded = time.perf_counter()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def feed(arrays: list[Any]) -> None:
        for position, array in enumerate(arrays):
            interpreter.set_tensor(inputs[position]["index"], array)

    return Session(
        version=str(package.__version__),
        import_ms=1e3 * (imported - began),
        load_ms=1e3 * (loaded - imported),
        inputs=[(tuple(max(1, int(size)) for size in i["shape"]), _dtype_name(i["dtype"])) for i in inputs],
        output_names=[output["name"] for output in outputs],
        feed=feed,
        invoke=interpreter.invoke,
        read=lambda: [interpreter.get_tensor(output["index"]) for output in outputs],
    )


def open_onnxruntime(path: str, threads: int) -> Session:
    """An ONNX file in ONNX Runtime on the CPU."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # without it >= 1.29 looks up hosts and writes under the home directory
    began = time.perf_counter()
    runtime = importlib.import_module("onnxruntime")
    imported = time.perf_counter()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter()
    feeds: dict[str, Any] = {}

    def feed(arrays: list[Any]) -> None:
        for position, item in enumerate(session.get_inputs()):
            feeds[item.name] = arrays[position]

    return Session(
        version=str(runtime.__version__),
        import_ms=1e3 * (imported - began),
        load_ms=1e3 * (loaded - imported),
        inputs=[(_fixed_shape(item.shape), _onnx_dtype(item.type)) for item in session.get_inputs()],
        output_names=[item.name for item in session.get_outputs()],
        feed=feed,
        invoke=lambda: session.run(None, feeds),
        read=lambda: list(session.run(None, feeds)),
    )


OPENERS = {"litert": open_litert, "onnxruntime": open_onnxruntime}


def seeded_inputs(specs: list[tuple[tuple[int, ...], str]], seed: int) -> list[Any]:
    """One random array per (shape, dtype), the same on every machine.

    Floats are uniform in [-1, 1), 8- and 16-bit integers use their full range. Wider integers are indices into
    tables whose size nobody states, so they are 0 or 1.
    """
    import numpy as np

    generator = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], dtype: str) -> Any:
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


def measure(path: str, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one process with one model; the keys of the JSON document."""
    runtime = options.runtime or detect_runtime(path)
    session = OPENERS[runtime](path, options.threads)
    session.feed(seeded_inputs(session.inputs, options.seed))
    began = time.perf_counter()
    session.invoke()
    first_inference_ms = 1e3 * (time.perf_counter() - began)
    outputs = session.read()
    gc.collect()
    gc.disable()
    warmup_calls, steady = warm_up(session.invoke, options.warmup, options.seconds)
    samples = _times_ns(session.invoke, options.seconds, options.min_iterations)
    gc.enable()
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
        "peak_memory_bytes": peak_memory_bytes(),
        "threads": options.threads,
        "seed": options.seed,
        "outputs": [_described(*pair, options.outputs) for pair in zip(session.output_names, outputs)],  # noqa: B905 - Python 3.9
        "cpu_model": cpu_model(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": importlib.import_module("numpy").__version__,
    }


def peak_memory_bytes() -> int:
    """The most memory this process has had resident, the interpreter and the runtime included.

    On Linux from VmHWM: `ru_maxrss` outlives exec there, so that a child of a large process starts with the
    parent's peak as its own.
    """
    for line in _text_of("/proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)


def cpu_model() -> str:
    """The name of this machine's processor, from the system's own description; never empty."""
    if sys.platform == "darwin":
        import subprocess

        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return found or platform.machine()
    return parse_cpuinfo(_text_of("/proc/cpuinfo")) or platform.processor() or platform.machine() or "unknown"


def parse_cpuinfo(text: str) -> str:
    """The processor's name in the text of `/proc/cpuinfo`, or "" if it tells none.

    ARM kernels give numbers for a name (`0x41/0xd08` is a Cortex-A72); unlike cores are all named, in order.
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
    """The time of each call in nanoseconds: at least `least` calls, and as many as `seconds` hold."""
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


def _described(name: str, array: Any, with_values: bool) -> dict[str, Any]:
    data = array.tobytes()
    described = {
        "name": name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    if with_values:
        described["base64"] = base64.b64encode(data).decode("ascii")
    return described


def _first_import(names: tuple[str, ...]) -> Any:
    """The first of these modules that is there; ImportError names them all."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError("none of these is installed: " + ", ".join(names))


def _dtype_name(dtype: Any) -> str:
    import numpy as np

    return str(np.dtype(dtype))


def _onnx_dtype(name: str) -> str:
    return ONNX_DTYPES.get(name, name[len("tensor(") : -1])


def _fixed_shape(shape: list[Any]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else 1 for size in shape)


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
    parser.add_argument("model", help="a TFLite or ONNX file, whatever its name")
    parser.add_argument("--runtime", choices=sorted(OPENERS), help="default: by the file's content")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default 0)")
    parser.add_argument("--threads", type=_positive, default=1, help="for the runtime's kernels (default 1)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of samples to take (default 0.1)")
    parser.add_argument("--min-iterations", type=_positive, default=20, help="samples to take at least (default 20)")
    parser.add_argument("--warmup", type=_positive, default=5, help="calls in a warm-up block (default 5)")
    parser.add_argument("--outputs", action="store_true", help="also give the outputs themselves, base64")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the JSON document, return the exit status."""
    options = _options(arguments)
    # Runtimes may print: while they run, file descriptor 1 is stderr, and the real stdout waits for the document.
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        document, status = measure(options.model, options), 0
    except Exception as error:  # noqa: BLE001 - runtimes raise whatever they like; the caller wants one document
        document, status = {"schema_version": SCHEMA_VERSION, "error": f"{type(error).__name__}: {error}"}, 1
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    # A script's folder comes first in the import path, and ours holds a `statistics` that is not the library's.
    if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
        del sys.path[0]
    sys.exit(main())
