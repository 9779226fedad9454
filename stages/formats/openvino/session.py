"""OpenVINO models in OpenVINO on the CPU: arrays go in and come out by name as Keras has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import DeviceError
from pipeline.records.artifacts import TensorSpec
from pipeline.system.quiet import quiet
from stages.formats.format import Arrays, LoadedModel
from stages.formats.onnx.session import LAYOUT, as_layout
from stages.formats.openvino.ir import graph_of, metadata_in
from stages.formats.openvino.opener import DEVICE, compile_options, silence_telemetry, sizes_of
from stages.formats.session import in_batches

Shapes = tuple[tuple[int | None, ...], ...]
PLACES = ("Exception from ", "Check '")  # what lines of OpenVINO's errors begin with that name its source


def import_openvino() -> Any:
    """The module `openvino`, which then sends no telemetry."""
    silence_telemetry()
    import openvino

    return openvino


def load_openvino(model: bytes | Path, threads: int = 1) -> LoadedModel:
    """An OpenVINO model on the CPU; DeviceError if it is refused.

    Where sizes are free it is compiled for those that come, one sample at a time. Left free, OpenVINO 2026.4.1 takes
    1.4 times as long, and in 8 bits may compute something else (docs/design/exports.md).
    """
    path = path_of(model)
    layout = layout_of(path)
    with quiet() as silence:
        try:
            read = import_openvino().Core().read_model(str(path))
            inputs, outputs = (tuple(map(_spec, ports)) for ports in (read.inputs, read.outputs))
            compiled = {_usual(inputs): compiled_for_samples(read.clone(), threads)}
        except Exception as error:  # it raises RuntimeError, and pybind11 what it likes
            raise DeviceError(f"OpenVINO can't load the file: {said(error)}", hint=silence.text() or None) from error
    names = [spec.name for spec in outputs]

    def run_batch(batch: Arrays) -> dict[str, Any]:
        feeds = {spec.name: as_layout(batch[spec.name], layout) for spec in inputs}
        shapes = tuple(tuple(array.shape) for array in feeds.values())
        try:
            if shapes not in compiled:
                compiled.clear()
                compiled[shapes] = compiled_at(read.clone(), shapes, threads)
            found = compiled[shapes](feeds)
            return {name: found[place] for place, name in enumerate(names)}
        except Exception as error:  # as above
            raise DeviceError(f"OpenVINO can't run the file: {said(error)}") from error

    return LoadedModel(
        inputs=inputs,
        outputs=outputs,
        run=lambda arrays: in_batches(run_batch, arrays, inputs[0].shape[0] or 1),
    )


def _usual(inputs: Sequence[TensorSpec]) -> Shapes:
    """The shapes of one sample; they hold a None, and fit no array, where other sizes than the batch are free."""
    return tuple((spec.shape[0] or 1, *spec.shape[1:]) if spec.shape else () for spec in inputs)


def compiled_at(model: Any, shapes: Shapes, threads: int) -> Any:
    """A model compiled for inputs of these shapes, in their order."""
    model.reshape({place: list(shape) for place, shape in enumerate(shapes)})
    return import_openvino().Core().compile_model(model, DEVICE, compile_options(threads))


def compiled_for_samples(model: Any, threads: int) -> Any:
    """A model compiled as it runs on devices: one sample where the batch is free."""
    shapes = {place: sizes_of(port.partial_shape) for place, port in enumerate(model.inputs)}
    if any(sizes and sizes[0] is None for sizes in shapes.values()):
        ones = {
            place: [size if size is not None else -1 if axis else 1 for axis, size in enumerate(sizes)]
            for place, sizes in shapes.items()
        }
        model.reshape(ones)
    return import_openvino().Core().compile_model(model, DEVICE, compile_options(threads))


def difference_left_free(model: Path, arrays: Arrays, expected: Mapping[str, Any]) -> float:
    """How far outputs are from the `expected` where free sizes stay free; relative to the largest, 0 where none is."""
    import numpy as np

    with quiet():
        read = import_openvino().Core().read_model(str(model))
        if not read.is_dynamic():
            return 0.0
        compiled, layout = import_openvino().Core().compile_model(read, DEVICE, compile_options(1)), layout_of(model)
        found = compiled({name: as_layout(values, layout) for name, values in arrays.items()})
    names = [port.any_name for port in read.outputs]
    return max(
        float(np.abs(found[place] - expected[name]).max() / max(float(np.abs(expected[name]).max()), 1e-30))
        for place, name in enumerate(names)
    )


def path_of(model: bytes | Path) -> Path:
    """The path of a model; DeviceError of its bytes, which are half of it."""
    if isinstance(model, bytes):
        raise DeviceError("an OpenVINO model is two files in one folder, not one file's bytes")
    return model


def layout_of(model: Path) -> str:
    """`nchw` where inputs of rank 4 have their channels first, else nothing."""
    return metadata_in(graph_of(model)).get(LAYOUT, "")


def said(error: Exception) -> str:
    """What an error of OpenVINO says, in one line, without the places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line and not line.startswith(PLACES)) or type(error).__name__


def _spec(port: Any) -> TensorSpec:
    sizes = tuple(sizes_of(port.partial_shape))
    return TensorSpec(name=port.any_name, shape=sizes, dtype=port.element_type.to_dtype().name)
