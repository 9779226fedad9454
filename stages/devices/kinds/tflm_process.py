"""Run a TFLite file in TensorFlow Lite for Microcontrollers, in a separate process: prints one JSON document."""

from __future__ import annotations

import sys
from typing import Any

from stages.devices import runner
from stages.formats.c.tflm import arena, details, open_interpreter, printed


def _document(path: str) -> dict[str, Any]:
    """Run the model once on the runner's seeded inputs."""
    interpreter = open_interpreter(path)
    inputs = details(interpreter.get_input_details)
    specs = [(tuple(int(size) for size in d["shape"]), runner.dtype_name(d["dtype"])) for d in inputs]
    for index, array in enumerate(runner.seeded_inputs(specs, 0)):
        interpreter.set_input(array, index)
    interpreter.invoke()
    outputs = [interpreter.get_output(index) for index in range(len(details(interpreter.get_output_details)))]
    return {
        "arena": arena(interpreter),
        "outputs": [runner.described(f"output {i}", array, with_values=True) for i, array in enumerate(outputs)],
    }


if __name__ == "__main__":
    sys.exit(printed(lambda: _document(sys.argv[1])))
