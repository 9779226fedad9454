"""What each operator of a file costs: instructions or time by cutting it; ONNX on this machine by its own profiler.

Costs of cuts add up to the whole by construction, so that the column of a profile is the file's cost, shared out. An
operator after which more tensors are alive pays for handing them out, which the one that reads them gets back. The
layers of the Keras model are read from names where a format's files carry them (TFLite: a fused operator names all that
went into it). Elsewhere (ONNX) operators are joined to layers by what both compute on one sample.
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

PROCESSES = {"instructions": 1, "nanoseconds": 5}
ARCHIVE_BYTES = 200 * 2**20


class OperatorCost(Value):
    """An operator in the order in which it runs; `layers` are the Keras layers in it, as far as names tell them."""

    kind: str
    name: str
    layers: tuple[str, ...]
    cost: float


@dataclass(frozen=True)
class Origin:
    """The Keras model that a file was made of, and one sample (1, …) by input name to tell its operators by.

    A quantized file computes like its model only near what it was calibrated on: a calibration sample tells most.
    """

    model: Any
    sample: Mapping[str, Any]


class Profile(Value):
    """What operators cost on a target; `unit` is `instructions` or `nanoseconds`, `total` what they add up to."""

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
    """The profile of a TFLite or ONNX file; `name` is what errors call it. Raises DeviceError, ModelError, RecipeError.

    An ONNX file's operators are joined to the layers of the Keras model that it was made of, where `origin` tells it.
    `shapes`, by input name and with the batch, are for inputs of free size: those of `origin`'s sample if left out.
    """
    require_profiling(target)
    found = recognise(model)
    standing = {key: array.shape for key, array in origin.sample.items()} if origin is not None else {}
    kernels, runtime = _kernels(found, target, model, name, shapes or standing)
    layers: list[tuple[str, ...]]
    if isinstance(found, NamesLayers):
        layers = [found.layers_of(one.name) for one in kernels]
    else:
        by_kernel = _layers_by_kernel(found, kernels, model, origin) if origin is not None else {}
        layers = [by_kernel.get(one.name, ()) for one in kernels]
    return Profile(
        target=target.name,
        runtime=runtime,
        unit=probing_driver(target).cost_unit,
        total=sum(one.cost for one in kernels),
        operators=tuple(
            OperatorCost(kind=one.operator, name=one.name, layers=held, cost=one.cost)
            for one, held in zip(kernels, layers, strict=True)
        ),
    )


def require_profiling(target: Target) -> None:
    """RecipeError where a target can't tell the operators of a file apart."""
    try:
        probing_driver(target)
    except DeviceError as error:
        raise RecipeError(error.what, where=f"--target {target.name}", hint=error.hint) from error


def _kernels(
    found: Format, target: Target, model: Path, name: str, shapes: Mapping[str, Sequence[int]]
) -> tuple[list[Kernel], str]:
    """By the runtime's own profiler where it runs on this machine, elsewhere by cuts of the file that runs there.

    RecipeError where the format has neither.
    """
    if isinstance(found, ProfiledHere) and target.kind == "cpu":
        return found.kernels(model, name, shapes)
    if isinstance(found, CutAsOptimized):
        return _by_cuts(target, list(found.cuts(optimized_there(target, model, name), name)), name, as_is=True)
    if isinstance(found, Cuttable):
        return _by_cuts(target, list(found.cuts(model.read_bytes(), name)), name)
    what = f"{found.name} files can't be profiled on {target.name}: their operators can't be told apart there"
    raise RecipeError(what, where=name)


def _by_cuts(target: Target, found: Sequence[Cut], name: str, *, as_is: bool = False) -> tuple[list[Kernel], str]:
    """What each cut costs more than the one before, and the runtime."""
    rounds, runtime = [], ""
    for _ in range(PROCESSES[probing_driver(target).cost_unit]):
        costs: list[float] = []
        for part in _parts(found):
            with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
                archive = Path(folder) / "cuts.zip"
                archive.write_bytes(_archive(part))
                probed = probe(target, archive, name, as_is=as_is)
            if len(probed.costs) != len(part):
                raise DeviceError(f"{len(probed.costs)} of {len(part)} cuts were measured", where=name)
            costs += probed.costs
            runtime = probed.runtime
        rounds.append(costs)
    # What comes between only adds to a cost.
    wholes = _non_decreasing([min(costs) for costs in zip(*rounds, strict=True)])
    each = [whole - before for whole, before in zip(wholes, [0.0, *wholes], strict=False)]
    return [Kernel(cut.kind, cut.name, cost) for cut, cost in zip(found, each, strict=True)], runtime


def _non_decreasing(wholes: Sequence[float]) -> list[float]:
    """Costs of ever longer cuts, without what would give an operator less than none: noise, or an output less to give.

    The nearest non-decreasing series by least squares: Ayer et al., "An Empirical Distribution Function for Sampling
    with Incomplete Information", 1955 (pool adjacent violators).
    """
    from scipy.optimize import isotonic_regression

    return [float(whole) for whole in isotonic_regression(wholes).x]


def _parts(found: Sequence[Cut]) -> Iterator[list[Cut]]:
    """The cuts in archives that are not too large."""
    part: list[Cut] = []
    for cut in found:
        if part and sum(len(one.data) for one in part) + len(cut.data) > ARCHIVE_BYTES:
            yield part
            part = []
        part.append(cut)
    yield part


def _archive(part: Sequence[Cut]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for place, cut in enumerate(part):
            archive.writestr(zipfile.ZipInfo(f"{place:05d}"), cut.data)
    return buffer.getvalue()


def _layers_by_kernel(
    found: Format, kernels: Sequence[Kernel], model: Path, origin: Origin
) -> dict[str, tuple[str, ...]]:
    """The layers in each kernel, by its name; none where the runtime does not show what its operators compute."""
    if not isinstance(found, ProfiledHere) or not isinstance(found, ShowsTensors):
        return {}
    from stages.formats.apart.runtimes import tensors_apart
    from stages.formats.layers.operators import layers_of_operators

    tensors = partial(tensors_apart, doing=f"layers of {model.name}")
    of_operator = layers_of_operators(origin.model, found.kind, model, origin.sample, tensors)
    places = found.operators_in(kernels, model)
    return {
        name: tuple(dict.fromkeys(layer for place in held for layer in of_operator[place]))
        for name, held in places.items()
    }
