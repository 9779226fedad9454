"""Run TFLite files in LiteRT, by their signature: arrays go in and come out by name as float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import DeviceError
from pipeline.records.artifacts import TensorSpec
from pipeline.system.quiet import quiet
from stages.formats.format import Arrays, LoadedModel
from stages.formats.session import dequantized, in_batches, quantized

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter, SignatureRunner
    from numpy.typing import NDArray

SIGNATURE = "serving_default"


def signature_of(data: bytes) -> tuple[dict[str, tuple[int, Any]], dict[str, tuple[int, Any]]]:
    """Return a TFLite file's inputs and outputs by name, each with its place in the file and LiteRT's details."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(model_content=data)
        runner = interpreter.get_signature_runner(SIGNATURE)
        ports = []
        for named, placed in (
            (runner.get_input_details(), interpreter.get_input_details()),
            (runner.get_output_details(), interpreter.get_output_details()),
        ):
            order = [detail["index"] for detail in placed]
            ports.append({name: (order.index(detail["index"]), detail) for name, detail in named.items()})
    return ports[0], ports[1]


def load_tflite(data: bytes, threads: int = 1) -> LoadedModel:
    """Load a TFLite file in LiteRT with XNNPACK; without a signature by tensor names. DeviceError if refused."""
    with quiet() as silence:
        try:
            from ai_edge_litert.interpreter import Interpreter

            # None, not 0, leaves the number of threads to LiteRT.
            interpreter = Interpreter(model_content=data, num_threads=threads or None)
            interpreter.allocate_tensors()
            runner = _runner(interpreter)
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise DeviceError(f"LiteRT can't load the file: {error}", hint=silence.text() or None) from error

    def run_batch(batch: Arrays) -> dict[str, NDArray[Any]]:
        stored = {name: quantized(batch[name], detail) for name, detail in inputs.items()}
        # A fused LSTM would continue from the previous sample: another `allocate_tensors` does not clear its state
        # (LiteRT 2.3.0).
        interpreter.reset_all_variables()
        try:
            # The runner returns views of the interpreter's memory: the next call would overwrite them.
            return {name: dequantized(value, outputs[name]) for name, value in runner(**stored).items()}
        except (ValueError, RuntimeError) as error:
            raise DeviceError(f"LiteRT can't run the file: {error}") from error

    specs = tuple(_tflite_spec(name, detail) for name, detail in inputs.items())
    return LoadedModel(
        inputs=specs,
        outputs=tuple(_tflite_spec(name, detail) for name, detail in outputs.items()),
        run=lambda arrays: in_batches(run_batch, arrays, specs[0].shape[0] or 1),
    )


def _runner(interpreter: Interpreter) -> SignatureRunner | _TensorRunner:
    """Return what runs the file by names: our exports' signature, else the first, else an equivalent by tensors."""
    keys = list(interpreter.get_signature_list())
    if keys:
        return interpreter.get_signature_runner(SIGNATURE if SIGNATURE in keys else keys[0])
    return _TensorRunner(interpreter)


class _TensorRunner:
    """Act as LiteRT's signature runner, for files of other converters, which often have no signature."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter

    def get_input_details(self) -> dict[str, Any]:
        return {detail["name"]: detail for detail in self._interpreter.get_input_details()}

    def get_output_details(self) -> dict[str, Any]:
        return {detail["name"]: detail for detail in self._interpreter.get_output_details()}

    def __call__(self, **stored: NDArray[Any]) -> dict[str, NDArray[Any]]:
        for name, detail in self.get_input_details().items():
            self._interpreter.set_tensor(detail["index"], stored[name])
        self._interpreter.invoke()
        outputs = self.get_output_details()
        return {name: self._interpreter.get_tensor(detail["index"]) for name, detail in outputs.items()}


def _tflite_spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    import numpy as np

    shape = tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
    return TensorSpec(name=name, shape=shape, dtype=np.dtype(detail["dtype"]).name)
