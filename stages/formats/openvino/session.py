"""OpenVINO models in OpenVINO on the CPU: arrays go in and come out by name as Keras has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DeviceError
from pipeline.records.artifacts import TensorSpec
from pipeline.system.quiet import quiet
from stages.formats.format import Arrays, LoadedModel
from stages.formats.onnx.session import LAYOUT, as_layout
from stages.formats.openvino.ir import graph_of, metadata_in
from stages.formats.openvino.opener import DEVICE, settings, silence_telemetry, sizes_of
from stages.formats.session import in_batches

PLACES = ("Exception from ", "Check '")  # what lines of OpenVINO's errors begin with that name its source


def import_openvino() -> Any:
    """The module `openvino`, which then sends no telemetry."""
    silence_telemetry()
    import openvino

    return openvino


def load_openvino(model: bytes | Path, threads: int = 1) -> LoadedModel:
    """An OpenVINO model on the CPU, compiled for one sample where its batch is free; DeviceError if it is refused."""
    path = path_of(model)
    layout = layout_of(path)
    with quiet() as silence:
        try:
            read = import_openvino().Core().read_model(str(path))
            inputs, outputs = (tuple(map(_spec, ports)) for ports in (read.inputs, read.outputs))
            compiled = compiled_for_samples(read, threads)
        except Exception as error:  # it raises RuntimeError, and pybind11 what it likes
            raise DeviceError(f"OpenVINO can't load the file: {said(error)}", hint=silence.text() or None) from error
    names = [spec.name for spec in outputs]

    def run_batch(batch: Arrays) -> dict[str, Any]:
        try:
            found = compiled({name: as_layout(values, layout) for name, values in batch.items()})
            return {name: found[place] for place, name in enumerate(names)}
        except Exception as error:  # as above
            raise DeviceError(f"OpenVINO can't run the file: {said(error)}") from error

    return LoadedModel(
        inputs=inputs,
        outputs=outputs,
        run=lambda arrays: in_batches(run_batch, arrays, inputs[0].shape[0] or 1),
    )


def compiled_for_samples(model: Any, threads: int, more: Mapping[str, str] | None = None) -> Any:
    """A model compiled as it runs on devices: one sample where the batch is free. `more` are settings besides."""
    shapes = {place: sizes_of(port.partial_shape) for place, port in enumerate(model.inputs)}
    if any(sizes and sizes[0] is None for sizes in shapes.values()):
        ones = {place: [1, *(-1 if size is None else size for size in sizes[1:])] for place, sizes in shapes.items()}
        model.reshape(ones)
    return import_openvino().Core().compile_model(model, DEVICE, {**settings(threads), **(more or {})})


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
