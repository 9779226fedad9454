"""Run a TFLite file in TensorFlow Lite for Microcontrollers here: whether it runs, its outputs, its arena.

The interpreter is C++ that may crash, so it runs in a separate process (this module as a program). Its kernels here are
the reference ones: slow, and the same on every machine.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.system.installed import package_version
from pipeline.system.processes import TIMEOUT_S, require_success, run_process

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tflite_micro.python.tflite_micro.runtime import Interpreter

PACKAGE, RUNTIME = "tflite-micro", "TensorFlow Lite for Microcontrollers"
ROOM_BYTES = 256 << 20  # the default is ten times the file, too little for small networks on large inputs
ARENA = re.compile(rb"Arena allocation (total|head|tail) (\d+) bytes")


@dataclass(frozen=True, slots=True)
class MicroRun:
    """Hold a run's results: the arena in bytes, and the outputs (N, …) by name in real numbers."""

    arena_bytes: int
    outputs: dict[str, NDArray[Any]]


def micro_is_installed() -> bool:
    """Return whether TFLM is installed on this machine."""
    return package_version(PACKAGE) != "absent"


def run_micro(data: bytes, arrays: dict[str, NDArray[Any]], name: str) -> MicroRun:
    """Run a TFLite file with a signature, batch size 1, on samples (N, …) by input name, as `load_tflite` takes them.

    `name` is used in errors. DeviceError if TFLM refuses the file.
    """
    import numpy as np

    from stages.formats.session import dequantized, quantized
    from stages.formats.tflite.session import signature_of

    inputs, outputs = signature_of(data)
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        model, input_file, output_file = (Path(folder) / file for file in ("model", "inputs.npz", "outputs.npz"))
        model.write_bytes(data)
        # TFLM's Python has no signatures: inputs and outputs are known by their place in the file only.
        order = {index: quantized(arrays[name], detail) for name, (index, detail) in inputs.items()}
        np.savez(input_file, *(order[index] for index in range(len(order))))
        command = [sys.executable, "-m", __name__, str(model), str(input_file), str(output_file)]
        done = run_process(command, name, TIMEOUT_S, program=RUNTIME)
        require_success(done, name, RUNTIME, "can't run this model")
        arena = json.loads(done.stdout)["arena"]["total"]
        with np.load(output_file) as archive:
            values = {name: dequantized(archive[f"arr_{index}"], detail) for name, (index, detail) in outputs.items()}
    return MicroRun(arena, values)


def main(model: str, given: str, made: str) -> int:
    """Run all samples of `given` through the model, one by one, the outputs to `made`; prints one JSON document."""
    return printed(lambda: _document(model, given, made))


def printed(make: Callable[[], dict[str, Any]]) -> int:
    """Print the result of `make`, a JSON document, to stdout and all else to stderr; returns the exit status."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        document, status = make(), 0
    except Exception as error:  # noqa: BLE001 - the runtime raises what it likes; the caller wants one document
        document, status = {"error": f"{type(error).__name__}: {error}"}, 1
    os.write(stdout, json.dumps(document).encode())
    return status


def _document(model: str, input_file: str, output_file: str) -> dict[str, Any]:
    import numpy as np

    interpreter = open_interpreter(model)
    with np.load(input_file) as archive:
        inputs = {index: archive[name] for index, name in enumerate(archive.files)}
    count = len(details(interpreter.get_output_details))
    outputs: list[list[Any]] = [[] for _ in range(count)]
    for sample in range(len(inputs[0])):
        # https://github.com/tensorflow/tflite-micro/pull/1389 added it for this.
        interpreter.reset()  # a fused LSTM would continue from the previous sample
        for index, values in inputs.items():
            # One sample at a time, as on a device: the files have batch 1.
            interpreter.set_input(values[sample : sample + 1], index)
        interpreter.invoke()
        for index in range(count):
            outputs[index].append(interpreter.get_output(index).copy())
    np.savez(output_file, *map(np.concatenate, outputs))
    # Last: TFLM's recording allocator knows all of the arena after an inference only.
    return {"arena": arena(interpreter)}


def open_interpreter(path: str) -> Interpreter:
    """Open a file in TFLM's interpreter, with room for any model that fits a microcontroller."""
    from tflite_micro.python.tflite_micro import runtime

    return runtime.Interpreter.from_file(path, arena_size=ROOM_BYTES)


def details(of: Callable[[int], Any]) -> list[Any]:
    """Return the details of tensors 0, 1, … until there is none."""
    entries: list[Any] = []
    while True:
        try:
            entries.append(of(len(entries)))
        except (IndexError, ValueError, RuntimeError):
            return entries


def arena(interpreter: Interpreter) -> dict[str, int]:
    """Return `total`, `head` (shared by tensors) and `tail` (permanent) in bytes; C++ only prints them."""
    with tempfile.TemporaryFile() as captured:
        before = os.dup(2), os.dup(1)
        # The descriptors themselves, since C++ prints past `sys.stdout` and `sys.stderr`.
        os.dup2(captured.fileno(), 2)
        os.dup2(captured.fileno(), 1)
        try:
            interpreter.print_allocations()
        finally:
            os.dup2(before[0], 2)
            os.dup2(before[1], 1)
        captured.seek(0)
        return {name.decode(): int(size) for name, size in ARENA.findall(captured.read())}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
