"""Exported files in the runtimes that devices use: LiteRT for TFLite (and what C source holds), ONNX Runtime for ONNX.

Arrays go in and come out by name as float32, whatever the file's own types are: inputs of an int8 file are quantized
on the way in and its outputs dequantized on the way out, by the scale and zero point that the file carries.
Files are run at the batch size that they were made for, and sample by sample where it is one or free: that is what a
device computes. It is not the same: ONNX Runtime's dynamic quantization takes one scale for a whole batch, so that in
batches of 256 every output of the demo's network differed from the one at batch 1, by up to 0.13.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DeviceError
from pipeline.records.artifacts import Kind, TensorSpec
from pipeline.system.quiet import quiet
from stages.formats.c.source import bytes_in_source
from stages.keras.tensorflow import ENVIRONMENT
from stages.samples.batches import batches_of

Arrays = Mapping[str, Any]  # tensor name -> (N, …)
SIGNATURE = "serving_default"
LAYOUT = "layout"  # the property of an ONNX file whose inputs of rank 4 have their channels first: `nchw`
CHANNELS_FIRST = (0, 3, 1, 2)
ONNX_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A file, ready to run. `run` takes any number of samples by input name and returns the outputs by name."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    run: Callable[[Arrays], dict[str, Any]]


def load_exported(kind: Kind, model: bytes | Path, threads: int = 1) -> LoadedModel:
    """The file of an exported artifact, of C source the TFLite file in it; DeviceError if its runtime refuses it.

    A model of several files is a path, the others in the same folder. `threads` of 0 leaves their number to the
    runtime.
    """
    match kind:
        case "tflite-model":
            return load_tflite(content_of(model), threads)
        case "onnx-model":
            return load_onnx(model, threads)
        case "c-source":
            return load_tflite(bytes_in_source(content_of(model)), threads)
    raise DeviceError(f"nothing on this machine runs a {kind}")


def content_of(model: bytes | Path) -> bytes:
    """The bytes of a model of one file."""
    return model if isinstance(model, bytes) else model.read_bytes()


def signature_of(data: bytes) -> tuple[dict[str, tuple[int, Any]], dict[str, tuple[int, Any]]]:
    """Of a TFLite file the inputs and the outputs by name, each with its place in the file and LiteRT's details."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(model_content=data)
        runner = interpreter.get_signature_runner(SIGNATURE)
        found = []
        for named, placed in (
            (runner.get_input_details(), interpreter.get_input_details()),
            (runner.get_output_details(), interpreter.get_output_details()),
        ):
            order = [detail["index"] for detail in placed]
            found.append({name: (order.index(detail["index"]), detail) for name, detail in named.items()})
    return found[0], found[1]


def load_tflite(data: bytes, threads: int = 1) -> LoadedModel:
    """A TFLite file in LiteRT with XNNPACK, by its tensors' names where it has no signature; DeviceError if refused."""
    with quiet() as silence:
        try:
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_content=data, num_threads=threads or None)
            interpreter.allocate_tensors()
            runner = _runner(interpreter)
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise DeviceError(f"LiteRT can't load the file: {error}", hint=silence.text() or None) from error

    def run_batch(batch: Arrays) -> dict[str, Any]:
        stored = {name: quantized(batch[name], detail) for name, detail in inputs.items()}
        interpreter.reset_all_variables()  # a fused LSTM would go on from the sample before
        try:
            # The runner hands out views of the interpreter's memory: the next call would overwrite them.
            return {name: dequantized(value, outputs[name]) for name, value in runner(**stored).items()}
        except (ValueError, RuntimeError) as error:
            raise DeviceError(f"LiteRT can't run the file: {error}") from error

    specs = tuple(_tflite_spec(name, detail) for name, detail in inputs.items())
    return LoadedModel(
        inputs=specs,
        outputs=tuple(_tflite_spec(name, detail) for name, detail in outputs.items()),
        run=lambda arrays: _in_batches(run_batch, arrays, specs[0].shape[0] or 1),
    )


def _runner(interpreter: Any) -> Any:
    """What runs the file by names: our exports' signature, else the first, else what does the same by tensors."""
    keys = list(interpreter.get_signature_list())
    if keys:
        return interpreter.get_signature_runner(SIGNATURE if SIGNATURE in keys else keys[0])
    return _TensorRunner(interpreter)


class _TensorRunner:
    """As LiteRT's signature runner, for files of other converters, which often have no signature."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter

    def get_input_details(self) -> dict[str, Any]:
        return {detail["name"]: detail for detail in self._interpreter.get_input_details()}

    def get_output_details(self) -> dict[str, Any]:
        return {detail["name"]: detail for detail in self._interpreter.get_output_details()}

    def __call__(self, **stored: Any) -> dict[str, Any]:
        for name, detail in self.get_input_details().items():
            self._interpreter.set_tensor(detail["index"], stored[name])
        self._interpreter.invoke()
        outputs = self.get_output_details()
        return {name: self._interpreter.get_tensor(detail["index"]) for name, detail in outputs.items()}


def load_onnx(model: bytes | Path, threads: int = 1) -> LoadedModel:
    """An ONNX file in ONNX Runtime on the CPU; DeviceError if ONNX Runtime refuses it."""
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
        run=lambda arrays: _in_batches(run_batch, arrays, specs[0].shape[0] or 1),
    )


def _in_batches(run_batch: Callable[[Arrays], dict[str, Any]], arrays: Arrays, size: int) -> dict[str, Any]:
    """Runs of `size` samples each, put together; the last one is filled up with its own last sample."""
    import numpy as np

    count = len(next(iter(arrays.values())))
    parts = [run_batch({name: v[picked] for name, v in arrays.items()}) for picked in batches_of(count, size)]
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def as_layout(values: Any, layout: str) -> Any:
    """Samples as Keras takes them (N, height, width, channels) in a file's layout; all but images stay as they are."""
    return values.transpose(CHANNELS_FIRST) if layout == "nchw" and values.ndim == len(CHANNELS_FIRST) else values


def quantized(values: Any, detail: Mapping[str, Any]) -> Any:
    """Real numbers as the file's input type: `round(x / scale) + zero_point`, clipped, for integer inputs."""
    import numpy as np

    scale, zero_point = detail["quantization"]
    if not scale:
        return np.ascontiguousarray(values, dtype=detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])


def dequantized(values: Any, detail: Mapping[str, Any]) -> Any:
    """Real numbers from the file's output type: `(q - zero_point) * scale` for quantized outputs; a new array."""
    import numpy as np

    scale, zero_point = detail["quantization"]
    if not scale:
        return np.array(values)
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def _tflite_spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    import numpy as np

    shape = tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
    return TensorSpec(name=name, shape=shape, dtype=np.dtype(detail["dtype"]).name)


def _onnx_spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(name=value.name, shape=shape, dtype=ONNX_TYPES.get(value.type, value.type))
