"""What each operator of a file costs: instructions or time by cutting in LiteRT, ONNX Runtime's own profile for ONNX.

Costs of cuts add up to the whole by construction, so that the column of a profile is the file's cost, shared out. The
layers of the Keras model are read from the names that TFLite files carry: a fused operator names all that went into it.
ONNX files carry none: their nodes are joined to layers by what both compute on one sample.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.errors import DeviceError, RecipeError
from pipeline.packages import package_version
from pipeline.values import Value
from stages.benchmark.cuts import Cut, cuts
from stages.benchmark.onnx_kernels import Kernel, kernels_of, nodes_of
from stages.benchmark.runner import detect_runtime
from stages.benchmark.target import Target, probe, probing_driver

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


def profile(target: Target, model: Path, name: str, origin: Origin | None = None) -> Profile:
    """The profile of a TFLite or ONNX file; `name` is what errors call it. Raises DeviceError, ModelError, RecipeError.

    An ONNX file's operators are joined to the layers of the Keras model that it was made of, where `origin` tells it.
    """
    require_profiling(target, model, name)
    if detect_runtime(str(model)) == "litert":
        return _by_cuts(target, model, name)
    return _by_onnxruntime(target, model, name, origin)


def require_profiling(target: Target, model: Path, name: str) -> None:
    """RecipeError where a target can't tell the operators of such a file apart."""
    if detect_runtime(str(model)) == "litert":
        try:
            probing_driver(target)
        except DeviceError as error:
            raise RecipeError(error.what, where=f"--target {target.name}", hint=error.hint) from error
    elif target.kind != "cpu":
        what = f"operators of an ONNX file can be told apart on this machine only, not on {target.name}"
        hint = "ONNX Runtime fuses operators, so that a file can't be cut: --target cpu"
        raise RecipeError(f"{name}: {what}", where=f"--target {target.name}", hint=hint)


def layers_of(name: str) -> tuple[str, ...]:
    """The Keras layers in a tensor's name: `model/conv_relu/Relu;model/conv/Conv2D1` is of conv and conv_relu.

    The layer with weights stands last in names and first here. A name that is no path tells none.
    """
    parts = [text.split("/") for text in name.split(";")]
    found = [part[1] for part in reversed(parts) if len(part) > 2 or (len(part) == 2 and part[1])]
    return tuple(dict.fromkeys(found))


def _by_cuts(target: Target, model: Path, name: str) -> Profile:
    unit = probing_driver(target).cost_unit
    found = list(cuts(model.read_bytes(), name))
    rounds, runtime = [], ""
    for _ in range(PROCESSES[unit]):
        costs: list[float] = []
        for part in _parts(found):
            with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
                archive = Path(folder) / "cuts.zip"
                archive.write_bytes(_archive(part))
                probed = probe(target, archive, name)
            if len(probed.costs) != len(part):
                raise DeviceError(f"{len(probed.costs)} of {len(part)} cuts were measured", where=name)
            costs += probed.costs
            runtime = probed.runtime
        rounds.append(costs)
    wholes = [min(costs) for costs in zip(*rounds, strict=True)]  # what comes between only adds to a cost
    if unit == "nanoseconds":
        wholes = _non_decreasing(wholes)
    before = [0.0, *wholes[:-1]]
    operators = tuple(
        OperatorCost(kind=cut.kind, name=cut.name, layers=layers_of(cut.name), cost=whole - earlier)
        for cut, whole, earlier in zip(found, wholes, before, strict=True)
    )
    return Profile(target=target.name, runtime=runtime, unit=unit, total=wholes[-1], operators=operators)


def _non_decreasing(wholes: Sequence[float]) -> list[float]:
    """Times of ever longer cuts with the noise taken out that would give an operator less than no time.

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


def _by_onnxruntime(target: Target, model: Path, name: str, origin: Origin | None) -> Profile:
    kernels = kernels_of(model, name)
    layers = _layers_by_kernel(kernels, model, origin) if origin is not None else {}
    operators = tuple(
        OperatorCost(kind=one.operator, name=one.name, layers=layers.get(one.name, ()), cost=one.nanoseconds)
        for one in kernels
    )
    total = sum(one.cost for one in operators)
    version = f"onnxruntime {package_version('onnxruntime')}"
    return Profile(target=target.name, runtime=version, unit="nanoseconds", total=total, operators=operators)


def _layers_by_kernel(kernels: Sequence[Kernel], model: Path, origin: Origin) -> dict[str, tuple[str, ...]]:
    import onnx

    from stages.layer_operators import layers_of_operators

    of_node = layers_of_operators(origin.model, "onnx-model", model, origin.sample)
    places = nodes_of(kernels, list(onnx.load(model, load_external_data=False).graph.node))
    return {
        name: tuple(dict.fromkeys(layer for place in held for layer in of_node[place])) for name, held in places.items()
    }
