"""A TFLite file in TensorFlow Lite for Microcontrollers, in a process of its own: prints one JSON document.

The size of the arena is printed by C++ and told nowhere else; why an operator is refused stands on stderr.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from stages.benchmark import runner

ROOM_BYTES = 256 << 20  # by default there is ten times the file, too little for small networks on large inputs
ARENA = re.compile(rb"Arena allocation (total|head|tail) (\d+) bytes")


def main(path: str) -> int:
    """Run the model once on the runner's seeded inputs; the document goes to stdout, all else to stderr."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        document, status = _document(path), 0
    except Exception as error:  # noqa: BLE001 - the runtime raises what it likes; the caller wants one document
        document, status = {"error": f"{type(error).__name__}: {error}"}, 1
    os.write(stdout, json.dumps(document).encode())
    return status


def _document(path: str) -> dict[str, Any]:
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(path, arena_size=ROOM_BYTES)
    details = _details(interpreter.get_input_details)
    specs = [(tuple(int(size) for size in d["shape"]), runner.dtype_name(d["dtype"])) for d in details]
    for index, array in enumerate(runner.seeded_inputs(specs, 0)):
        interpreter.set_input(array, index)
    interpreter.invoke()
    outputs = [interpreter.get_output(index) for index in range(len(_details(interpreter.get_output_details)))]
    return {
        "arena": _arena(interpreter),
        "outputs": [runner.described(f"output {i}", array, with_values=False) for i, array in enumerate(outputs)],
    }


def _details(of: Any) -> list[Any]:
    """Those of tensor 0, 1, … until there is none."""
    found: list[Any] = []
    while True:
        try:
            found.append(of(len(found)))
        except (IndexError, ValueError, RuntimeError):
            return found


def _arena(interpreter: Any) -> dict[str, int]:
    """`total`, `head` (what the tensors share) and `tail` (what stays) in bytes."""
    with tempfile.TemporaryFile() as captured:
        before = os.dup(2), os.dup(1)
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
    sys.exit(main(str(Path(sys.argv[1]))))
