"""Open TFLite files on a device: part of the device runner, which goes to boards (Python >= 3.9, nothing of ours).

`core` is the runner's main module, which has what all openers share.
"""

from __future__ import annotations

import argparse
import importlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

RUNTIME = "litert"
MODULES = ("ai_edge_litert", "tflite_runtime")
INSTALL = "python3 -m pip install ai-edge-litert numpy"


def recognises(head: bytes) -> bool:
    """Return whether a file with this beginning is for this runtime."""
    return head[4:8] == b"TFL3"


def open_model(path: str, options: argparse.Namespace, core: ModuleType) -> Any:
    """Open a TFLite file in LiteRT, its tensors allocated."""
    began = time.perf_counter()
    package = core.first_import(MODULES, INSTALL)
    interpreter_type = importlib.import_module(package.__name__ + ".interpreter").Interpreter
    imported = time.perf_counter()
    interpreter = interpreter_type(model_path=path, num_threads=options.threads)
    shapes = core.shapes_given(options.shape)
    core.require_inputs(shapes, [item["name"] for item in interpreter.get_input_details()])
    resized = []
    for item in interpreter.get_input_details():
        wanted = core.shape_of(item["name"], list(item.get("shape_signature", item["shape"])), shapes)
        if wanted != tuple(item["shape"]):
            interpreter.resize_tensor_input(item["index"], wanted)
            resized.append(f"{item['name']}={core.listed(wanted)} (in the file: {core.listed(item['shape'])})")
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        if not resized:
            raise
        raise ValueError(f"the model can't run at {', '.join(resized)}: {error}") from error
    loaded = time.perf_counter()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def feed(arrays: list[NDArray[Any]]) -> None:
        for position, array in enumerate(arrays):
            interpreter.set_tensor(inputs[position]["index"], array)

    return core.Session(
        version=str(package.__version__),
        import_ms=1e3 * (imported - began),
        load_ms=1e3 * (loaded - imported),
        inputs=[(tuple(int(size) for size in i["shape"]), core.dtype_name(i["dtype"])) for i in inputs],
        output_names=[output["name"] for output in outputs],
        feed=feed,
        invoke=interpreter.invoke,
        read=lambda: [interpreter.get_tensor(output["index"]) for output in outputs],
        delegates=["XNNPACK"],
    )
