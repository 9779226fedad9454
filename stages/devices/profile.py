"""Attribute costs to a file's operators: instructions or time by cutting it; ONNX here by its runtime's profiler.

Costs of cuts add up to the whole by construction, so that the column of a profile is the file's cost, distributed. An
operator after which more tensors are alive is charged for returning them, and the one that reads them is credited. The
layers of the Keras model are read from names if a format's files carry them (TFLite: a fused operator names all its
parts). Otherwise (ONNX) operators are matched to layers by what both compute on one sample.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.errors import DeviceError, RecipeError
from pipeline.records.values import Value
from stages.devices.target import Target, optimized_there, probe, probing_driver
from stages.formats.cut import Cut
from stages.formats.format import (
    CutAsOptimized,
    Cuttable,
    Format,
    Kernel,
    NamesLayers,
    ProfiledHere,
    ShowsTensors,
)
from stages.formats.registry import recognise
from stages.keras.types import KerasModel

# Counts repeat from process to process, times do not.
PROCESSES = {"instructions": 1, "nanoseconds": 5}
# Each cut holds all weights before it, so that the cuts of a large network are gigabytes together.
ARCHIVE_BYTES = 200 * 2**20


class OperatorCost(Value):
    """Describe an operator in execution order; `layers` are the Keras layers in it, as far as names tell them."""

    kind: str
    name: str
    layers: tuple[str, ...]
    cost: float


@dataclass(frozen=True)
class Origin:
    """Hold the Keras model that a file was made from, and one sample (1, …) by input name to match its operators.

    A quantized file computes like its model only near its calibration data: a calibration sample works best.
    """

    model: KerasModel
    sample: Mapping[str, Any]


class Profile(Value):
    """Hold operator costs on a target; `unit` is `instructions` or `nanoseconds`, `total` their sum."""

    schema_version: Literal[1] = 1
    target: str
    runtime: str
    unit: Literal["instructions", "nanoseconds"]
    total: float = Field(ge=0)
    operators: tuple[OperatorCost, ...]


def profile(
    target: Target,
    model: Path,
    name: str,
    origin: Origin | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Profile:
    """Profile a TFLite or ONNX file; `name` is used in errors. Raises DeviceError, ModelError, RecipeError.

    An ONNX file's operators are matched to the layers of the Keras model given by `origin`. `shapes`, by input name and
    with the batch, are for inputs of free size: those of `origin`'s sample by default.
    """
    require_profiling(target)
    file_format = recognise(model)
    standing = {key: array.shape for key, array in origin.sample.items()} if origin is not None else {}
    kernels, runtime = _kernels(file_format, target, model, name, shapes or standing)
    layers: list[tuple[str, ...]]
    if isinstance(file_format, NamesLayers):
        layers = [file_format.layers_of(kernel.name) for kernel in kernels]
    else:
        by_kernel = _layers_by_kernel(file_format, kernels, model, origin) if origin is not None else {}
        layers = [by_kernel.get(kernel.name, ()) for kernel in kernels]
    return Profile(
        target=target.name,
        runtime=runtime,
        unit=probing_driver(target).cost_unit,
        total=sum(kernel.cost for kernel in kernels),
        operators=tuple(
            OperatorCost(kind=kernel.operator, name=kernel.name, layers=held, cost=kernel.cost)
            for kernel, held in zip(kernels, layers, strict=True)
        ),
    )


def require_profiling(target: Target) -> None:
    """Raise RecipeError if a target can't separate the operators of a file."""
    try:
        probing_driver(target)
    except DeviceError as error:
        raise RecipeError(error.what, where=f"--target {target.name}", hint=error.hint) from error


def _kernels(
    file_format: Format, target: Target, model: Path, name: str, shapes: Mapping[str, Sequence[int]]
) -> tuple[list[Kernel], str]:
    """Use the runtime's own profiler if it runs on this machine, elsewhere cuts of the file that runs there.

    RecipeError if the format has neither.
    """
    if isinstance(file_format, ProfiledHere) and target.kind == "cpu":
        return file_format.kernels(model, name, shapes)
    if isinstance(file_format, CutAsOptimized):
        return _by_cuts(
            target, list(file_format.cuts_of_optimized(optimized_there(target, model, name))), name, as_is=True
        )
    if isinstance(file_format, Cuttable):
        return _by_cuts(target, list(file_format.cuts(model.read_bytes(), name)), name)
    what = f"{file_format.name} files can't be profiled on {target.name}: their operators can't be told apart there"
    raise RecipeError(what, where=name)


def _by_cuts(target: Target, cuts: Sequence[Cut], name: str, *, as_is: bool = False) -> tuple[list[Kernel], str]:
    """Return what each cut costs more than the one before, and the runtime."""
    rounds, runtime = [], ""
    for _ in range(PROCESSES[probing_driver(target).cost_unit]):
        costs: list[float] = []
        for part in _parts(cuts):
            with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
                archive = Path(folder) / "cuts.zip"
                archive.write_bytes(_archive(part))
                probed = probe(target, archive, name, as_is=as_is)
            if len(probed.costs) != len(part):
                raise DeviceError(f"{len(probed.costs)} of {len(part)} cuts were measured", where=name)
            costs += probed.costs
            runtime = probed.runtime
        rounds.append(costs)
    # Disturbances only add to a cost.
    wholes = _non_decreasing([min(costs) for costs in zip(*rounds, strict=True)])
    each = [whole - before for whole, before in zip(wholes, [0.0, *wholes], strict=False)]
    return [Kernel(cut.kind, cut.name, cost) for cut, cost in zip(cuts, each, strict=True)], runtime


def _non_decreasing(wholes: Sequence[float]) -> list[float]:
    """Remove decreases from the costs of ever longer cuts: noise, or one output less to return.

    Computes the nearest non-decreasing series by least squares: Ayer et al., "An Empirical Distribution Function for
    Sampling with Incomplete Information", 1955 (pool adjacent violators).
    """
    from scipy.optimize import isotonic_regression

    return [float(whole) for whole in isotonic_regression(wholes).x]


def _parts(cuts: Sequence[Cut]) -> Iterator[list[Cut]]:
    """Split the cuts into archives that are not too large."""
    part: list[Cut] = []
    for cut in cuts:
        if part and sum(len(earlier.data) for earlier in part) + len(cut.data) > ARCHIVE_BYTES:
            yield part
            part = []
        part.append(cut)
    yield part


def _archive(part: Sequence[Cut]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for index, cut in enumerate(part):
            archive.writestr(zipfile.ZipInfo(f"{index:05d}"), cut.data)
    return buffer.getvalue()


def _layers_by_kernel(
    file_format: Format, kernels: Sequence[Kernel], model: Path, origin: Origin
) -> dict[str, tuple[str, ...]]:
    """Return the layers in each kernel, by its name; none if the runtime does not expose intermediate results."""
    if not isinstance(file_format, ProfiledHere) or not isinstance(file_format, ShowsTensors):
        return {}
    from stages.formats.apart.runtimes import tensors_apart
    from stages.formats.layers.operators import layers_of_operators

    tensors = partial(tensors_apart, doing=f"layers of {model.name}")
    of_operator = layers_of_operators(origin.model, file_format.kind, model, origin.sample, tensors)
    places = file_format.operators_in(kernels, model)
    return {
        name: tuple(dict.fromkeys(layer for operator in held for layer in of_operator[operator]))
        for name, held in places.items()
    }
