"""Run OpenVINO models on the CPU: arrays go in and come out by name and in the layout that Keras has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.errors import DeviceError
from pipeline.records.artifacts import TensorSpec
from pipeline.system.quiet import quiet
from stages.formats.format import Arrays, LoadedModel
from stages.formats.onnx.session import LAYOUT, as_layout
from stages.formats.openvino.ir import graph_of, metadata_in
from stages.formats.openvino.opener import DEVICE, compile_options, silence_telemetry, sizes_of
from stages.formats.session import in_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from openvino import CompiledModel, ConstOutput
    from openvino import Model as OvModel

Shapes = tuple[tuple[int | None, ...], ...]
PLACES = ("Exception from ", "Check '")  # what lines of OpenVINO's errors begin with that name its source


def import_openvino() -> ModuleType:
    """Import and return `openvino`, without its telemetry."""
    silence_telemetry()
    import openvino

    return openvino  # type: ignore[no-any-return]


def load_openvino(model: bytes | Path, threads: int = 1) -> LoadedModel:
    """Load an OpenVINO model on the CPU; DeviceError if OpenVINO refuses it.

    A model with free sizes is compiled for the shapes that come, one sample at a time. With sizes left free, OpenVINO
    2026.4.1 takes 1.4 times as long, and may compute something else in 8 bits (docs/design/exports.md).
    """
    path = path_of(model)
    layout = layout_of(path)
    with quiet() as silence:
        try:
            read = import_openvino().Core().read_model(str(path))
            inputs, outputs = (tuple(map(_spec, ports)) for ports in (read.inputs, read.outputs))
            # Of a copy, here and below: `reshape` changes the model that it is given.
            compiled = {_usual(inputs): compiled_for_samples(read.clone(), threads)}
        except Exception as error:  # it raises RuntimeError, and pybind11 what it likes
            raise DeviceError(f"OpenVINO can't load the file: {said(error)}", hint=silence.text() or None) from error
    names = [spec.name for spec in outputs]

    def run_batch(batch: Arrays) -> dict[str, NDArray[Any]]:
        feeds = {spec.name: as_layout(batch[spec.name], layout) for spec in inputs}
        shapes = tuple(tuple(array.shape) for array in feeds.values())
        try:
            if shapes not in compiled:
                # Only the last one is kept: each new shape would be one more compiled model in memory.
                compiled.clear()
                compiled[shapes] = compiled_at(read.clone(), shapes, threads)
            results = compiled[shapes](feeds)
            return {name: results[index] for index, name in enumerate(names)}
        except Exception as error:  # as above
            raise DeviceError(f"OpenVINO can't run the file: {said(error)}") from error

    return LoadedModel(
        inputs=inputs,
        outputs=outputs,
        run=lambda arrays: in_batches(run_batch, arrays, inputs[0].shape[0] or 1),
    )


def _usual(inputs: Sequence[TensorSpec]) -> Shapes:
    """Return the shapes of one sample; a None, which fits no array, stands for a free size besides the batch."""
    return tuple((spec.shape[0] or 1, *spec.shape[1:]) if spec.shape else () for spec in inputs)


def compiled_at(model: OvModel, shapes: Shapes, threads: int) -> CompiledModel:
    """Return a model compiled for inputs of these shapes, in their order."""
    model.reshape({index: list(shape) for index, shape in enumerate(shapes)})
    return import_openvino().Core().compile_model(model, DEVICE, compile_options(threads))


def compiled_for_samples(model: OvModel, threads: int) -> CompiledModel:
    """Return a model compiled as devices run it: for one sample if the batch is free."""
    shapes = {index: sizes_of(port.partial_shape) for index, port in enumerate(model.inputs)}
    if any(sizes and sizes[0] is None for sizes in shapes.values()):
        ones = {
            index: [size if size is not None else -1 if axis else 1 for axis, size in enumerate(sizes)]
            for index, sizes in shapes.items()
        }
        model.reshape(ones)
    return import_openvino().Core().compile_model(model, DEVICE, compile_options(threads))


def difference_left_free(model: Path, arrays: Arrays, expected: Arrays) -> float:
    """Return how far outputs are from the `expected` if sizes stay free, relative to the largest; 0 if none is free."""
    import numpy as np

    with quiet():
        read = import_openvino().Core().read_model(str(model))
        if not read.is_dynamic():
            return 0.0
        compiled, layout = import_openvino().Core().compile_model(read, DEVICE, compile_options(1)), layout_of(model)
        results = compiled({name: as_layout(values, layout) for name, values in arrays.items()})
    names = [port.any_name for port in read.outputs]
    return max(
        float(np.abs(results[index] - expected[name]).max() / max(float(np.abs(expected[name]).max()), 1e-30))
        for index, name in enumerate(names)
    )


def path_of(model: bytes | Path) -> Path:
    """Return the path of a model; DeviceError if it is given as bytes, which lack its constants."""
    if isinstance(model, bytes):
        raise DeviceError("an OpenVINO model is two files in one folder, not one file's bytes")
    return model


def layout_of(model: Path) -> str:
    """Return `nchw` if inputs of rank 4 have their channels first, else an empty string."""
    return metadata_in(graph_of(model)).get(LAYOUT, "")


def said(error: Exception) -> str:
    """Return the message of an OpenVINO error in one line, without places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line and not line.startswith(PLACES)) or type(error).__name__


def _spec(port: ConstOutput) -> TensorSpec:
    sizes = tuple(sizes_of(port.partial_shape))
    return TensorSpec(name=port.any_name, shape=sizes, dtype=port.element_type.to_dtype().name)
