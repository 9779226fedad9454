"""Open ONNX files on a device: part of the device runner, which goes to boards (Python >= 3.9, nothing of ours).

`core` is the runner's main module, which has what all openers share.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray
    from onnxruntime import SessionOptions

RUNTIME = "onnxruntime"
MODULES = ("onnxruntime",)
INSTALL = "python3 -m pip install onnxruntime"
DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # the others have numpy's names
# Tags that onnx.ModelProto can begin with: number and wire type of its fields.
FIRST = frozenset({0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72, 0xA2, 0xCA})


def recognises(head: bytes) -> bool:
    """Return whether a file with this beginning is for this runtime."""
    return head[:1] != b"" and head[0] in FIRST and head[4:8] != b"TFL3"


def open_model(path: str, options: argparse.Namespace, core: ModuleType) -> Any:
    """Open an ONNX file in ONNX Runtime on the CPU."""
    # Before the import: ONNX Runtime reads it once, and keeps the answer for the process' lifetime
    # (https://github.com/microsoft/onnxruntime/pull/27379).
    os.environ.update(core.NO_TELEMETRY)
    began = time.perf_counter()
    runtime = core.first_import(MODULES, INSTALL)
    imported = time.perf_counter()
    settings = _settings(runtime, options.threads)
    if options.as_is:
        settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter()
    shapes = core.shapes_given(options.shape)
    core.require_inputs(shapes, [item.name for item in session.get_inputs()])
    feeds: dict[str, Any] = {}

    def feed(arrays: list[NDArray[Any]]) -> None:
        for position, item in enumerate(session.get_inputs()):
            feeds[item.name] = arrays[position]

    return core.Session(
        version=str(runtime.__version__),
        import_ms=1e3 * (imported - began),
        load_ms=1e3 * (loaded - imported),
        inputs=[(core.shape_of(i.name, i.shape, shapes), _dtype(i.type)) for i in session.get_inputs()],
        output_names=[item.name for item in session.get_outputs()],
        feed=feed,
        invoke=lambda: session.run(None, feeds),
        read=lambda: list(session.run(None, feeds)),
        delegates=["CPUExecutionProvider"],
    )


def _settings(runtime: ModuleType, threads: int) -> SessionOptions:
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = threads
    # Used in parallel execution mode only, which is not the default: these threads would be idle.
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    return settings


def optimized(path: str, options: argparse.Namespace, core: ModuleType) -> tuple[str, bytes]:
    """Return the runtime's version, and the graph that it makes of a file on this processor."""
    os.environ.update(core.NO_TELEMETRY)
    runtime = core.first_import(MODULES, INSTALL)
    settings = _settings(runtime, options.threads)
    settings.log_severity_level = 4  # it warns that the graph is for this processor
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.onnx"
        settings.optimized_model_filepath = str(graph)
        runtime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        return str(runtime.__version__), graph.read_bytes()


def _dtype(name: str) -> str:
    return DTYPES.get(name, name[len("tensor(") : -1])
