"""Open OpenVINO models, for the device runner and for this project.

This file goes to a board as it is: it needs Python >= 3.9, openvino and numpy, and nothing else of this project. Float
operators always compute in float32, whatever the processor prefers, and no telemetry is sent.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray
    from openvino import PartialShape

RUNTIME = "openvino"
MODULES = ("openvino",)
# Without what openvino would bring to report its use. Boards with Python 3.9 get an older release than our extra's.
INSTALL = "python3 -m pip install --no-deps openvino numpy"
DEVICE = "CPU"
PRECISION = "f32"
BEGINNING = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<net[\s>]", re.DOTALL)


def recognises(head: bytes) -> bool:
    """Return whether a file that begins like this (1,024 bytes are enough) is the graph of an OpenVINO model."""
    return BEGINNING.match(head) is not None


def compile_options(threads: int) -> dict[str, str]:
    """Return the options to compile a model with, for one inference at a time; with 0 `threads` OpenVINO chooses.

    Without a precision OpenVINO takes bfloat16 where the processor has it: outputs are then 4e-2 off instead of 1e-6.
    It would also pin its threads to cores of its own choice, busy or not; whoever starts the process chooses them.
    """
    options = {"INFERENCE_PRECISION_HINT": PRECISION, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    options["ENABLE_CPU_PINNING"] = "NO"  # pinned, an inference took 4.0 instead of 2.1 ms on a busy machine
    return {**options, "INFERENCE_NUM_THREADS": str(threads)} if threads else options


def silence_telemetry() -> None:
    """Keep openvino from reporting its use through openvino-telemetry; call this before openvino is imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: it can't be imported


def sizes_of(shape: PartialShape) -> list[int | None]:
    """Return the sizes of an OpenVINO shape, free ones as None."""
    return [None if size.is_dynamic else size.get_length() for size in shape]


def open_model(path: str, options: argparse.Namespace, core: ModuleType) -> Any:
    """Open the runner's session of a model, compiled for the CPU at the shapes that it is fed; `core` is the runner."""
    import numpy as np

    began = time.perf_counter()
    silence_telemetry()
    runtime = core.first_import(MODULES, INSTALL)
    imported = time.perf_counter()
    engine = runtime.Core()
    model = engine.read_model(path)
    shapes = core.shapes_given(options.shape)
    core.require_inputs(shapes, [item.any_name for item in model.inputs])
    wanted = [core.shape_of(item.any_name, sizes_of(item.partial_shape), shapes) for item in model.inputs]
    if any(list(shape) != sizes_of(item.partial_shape) for item, shape in zip(model.inputs, wanted)):  # noqa: B905 - Python 3.9
        try:
            model.reshape({index: list(shape) for index, shape in enumerate(wanted)})
        except RuntimeError as error:
            raise ValueError(f"the model can't run at {wanted}: {error}") from error
    request = engine.compile_model(model, DEVICE, compile_options(options.threads)).create_infer_request()
    loaded = time.perf_counter()

    def feed(arrays: list[NDArray[Any]]) -> None:
        for position, array in enumerate(arrays):
            # Written in place before the clock starts: passing arrays to `infer` would copy them inside of the measured
            # call.
            request.get_input_tensor(position).data[...] = array

    return core.Session(
        version=str(runtime.__version__).partition("-")[0],
        import_ms=1e3 * (imported - began),
        load_ms=1e3 * (loaded - imported),
        inputs=[(tuple(i.shape), i.element_type.to_dtype().name) for i in model.inputs],
        output_names=[item.any_name for item in model.outputs],
        feed=feed,
        # Without sharing, each measured call would also copy its outputs.
        invoke=lambda: request.infer(share_outputs=True),
        read=lambda: [np.array(tensor.data) for tensor in request.output_tensors],
        delegates=[DEVICE],
    )
