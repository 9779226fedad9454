"""Run ONNX files in ONNX Runtime on the CPU: arrays go in and come out by Keras' names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DeviceError
from pipeline.records.artifacts import TensorSpec
from pipeline.system.quiet import quiet
from stages.formats.format import Arrays, LoadedModel
from stages.formats.session import in_batches
from stages.keras.tensorflow import ENVIRONMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnxruntime import NodeArg

LAYOUT = "layout"  # property of an ONNX file whose inputs of rank 4 have their channels first: `nchw`
CHANNELS_FIRST = (0, 3, 1, 2)
ONNX_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


def load_onnx(model: bytes | Path, threads: int = 1) -> LoadedModel:
    """Load an ONNX file in ONNX Runtime on the CPU; DeviceError if ONNX Runtime refuses it."""
    # Here as well, for a process in which nothing has imported TensorFlow through `stages.keras.tensorflow`.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", ENVIRONMENT["ORT_DISABLE_TELEMETRY"])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    with quiet() as silence:
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base but Exception
            raise DeviceError(f"ONNX Runtime can't load the file: {error}", hint=silence.text() or None) from error
    names = [output.name for output in session.get_outputs()]
    layout = session.get_modelmeta().custom_metadata_map.get(LAYOUT, "")

    def run_batch(batch: Arrays) -> dict[str, Any]:
        try:
            feeds = {name: as_layout(values, layout) for name, values in batch.items()}
            return dict(zip(names, session.run(names, feeds), strict=True))
        except Exception as error:  # as above
            raise DeviceError(f"ONNX Runtime can't run the file: {error}") from error

    specs = tuple(_onnx_spec(value) for value in session.get_inputs())
    return LoadedModel(
        inputs=specs,
        outputs=tuple(_onnx_spec(value) for value in session.get_outputs()),
        run=lambda arrays: in_batches(run_batch, arrays, specs[0].shape[0] or 1),
    )


def as_layout(values: NDArray[Any], layout: str) -> NDArray[Any]:
    """Convert Keras' samples (N, height, width, channels) to a file's layout; all but images are unchanged."""
    return values.transpose(CHANNELS_FIRST) if layout == "nchw" and values.ndim == len(CHANNELS_FIRST) else values


def _onnx_spec(value: NodeArg) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(name=value.name, shape=shape, dtype=ONNX_TYPES.get(value.type, value.type))
