"""Name the operators of an int8 file that cost more than in float32 on a target, why, and what helps.

Nothing is assumed of a core: each operator is measured there alone, in 8 bits and in float32 (`HasTwins`). The table
`RULES` holds what is known about the reasons; its last row takes whatever no other explains. Where a runtime fuses
operators first (ONNX Runtime), those that it leaves in float between conversions are named from a profile.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import DeviceError, RecipeError
from pipeline.records.values import Value
from stages.devices.profile import PROCESSES, Origin, profile
from stages.devices.target import Target, probe, probing_driver
from stages.formats.format import CutAsOptimized, HasTwins, NamesLayers
from stages.formats.registry import recognise
from stages.formats.twin import Twin

LEAST_SHARE = 0.01  # of the file's cost, that an operator loses in 8 bits
# Instructions are exact. Of times, what two processes on a busy machine may differ by is no finding.
LEAST_RATIO = {"instructions": 1.0, "nanoseconds": 1.15}
FEW = 4  # channels, from which on no kernel seen pads its input
CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear"})
INTEGER = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger")  # how ONNX Runtime's integer kernels begin


@dataclass(frozen=True, slots=True)
class Rule:
    """Explain operators of `kinds` (empty: any) that read at most `channels`; `helps` gets the layers' names."""

    name: str
    kinds: frozenset[str]
    channels: int | None
    why: str
    helps: str


RULES = (
    Rule(
        "few_channels",
        frozenset({"CONV_2D", "TRANSPOSE_CONV"}),
        FEW - 1,
        "int8 kernels take input channels in groups of 4 or 8: of so few, most of each group is padding",
        "keep_float: [{layers}], or faster_on: {target}, which measures the whole file",
    ),
    Rule(
        "lone_activation",
        frozenset({"RELU", "RELU6"}),
        None,
        "no operator has fused it, and LiteRT has no fast int8 kernel that changes the scale",
        "export the file again with secateur, which replaces it",
    ),
    Rule(
        "slower_kernel",
        frozenset(),
        None,
        "the runtime's int8 kernel of this shape is slower than its float32 one on this core",
        "keep_float: [{layers}], or faster_on: {target}, which measures the whole file",
    ),
)


class Advice(Value):
    """Name an operator that costs more than it should: its cost, what it would be in float32, why, and what helps."""

    rule: str
    kind: str
    name: str
    layers: tuple[str, ...]
    cost: float
    float_cost: float
    why: str
    helps: str

    @property
    def lost(self) -> float:
        """Return what the operator costs more."""
        return self.cost - self.float_cost


class Advised(Value):
    """Hold the advice for a file on a target, most costly first; `total` is the cost of all operators looked at."""

    schema_version: Literal[1] = 1
    target: str
    runtime: str
    unit: Literal["instructions", "nanoseconds"]
    total: float
    advice: tuple[Advice, ...]


def advise(target: Target, model: Path, name: str, origin: Origin | None = None) -> Advised:
    """Return what costs more than it should in a TFLite or ONNX file. Raises DeviceError, ModelError, RecipeError.

    `origin` is what an ONNX file was made from, to name layers.
    """
    file_format = recognise(model)
    if isinstance(file_format, HasTwins):
        layers_of = file_format.layers_of if isinstance(file_format, NamesLayers) else lambda _: ()
        return _by_twins(target, list(file_format.twins(model.read_bytes(), name)), name, layers_of)
    if isinstance(file_format, CutAsOptimized):
        return _between_conversions(target, model, name, origin)
    what = f"no advice is known for {file_format.name} files: their operators can't be measured alone"
    raise RecipeError(what, where=name)


def _by_twins(target: Target, twins: Sequence[Twin], name: str, layers_of: Callable[[str], tuple[str, ...]]) -> Advised:
    unit = probing_driver(target).cost_unit
    costs, runtime = _costs(target, twins, name) if twins else ([], "")
    total = sum(integer for integer, _ in costs)
    found = []
    for twin, (integer, real) in zip(twins, costs, strict=True):
        if integer - real < LEAST_SHARE * total or integer < LEAST_RATIO[unit] * real:
            continue
        rule = next(rule for rule in RULES if _holds(rule, twin))
        layers = layers_of(twin.name)
        helps = rule.helps.format(layers=layers[0] if layers else "LAYER", target=target.name)
        found.append(
            Advice(
                rule=rule.name,
                kind=twin.kind,
                name=twin.name,
                layers=layers,
                cost=integer,
                float_cost=real,
                why=rule.why,
                helps=helps,
            )
        )
    found.sort(key=lambda one: -one.lost)
    return Advised(target=target.name, runtime=runtime, unit=unit, total=total, advice=tuple(found))


def _holds(rule: Rule, twin: Twin) -> bool:
    return (not rule.kinds or twin.kind in rule.kinds) and (rule.channels is None or twin.channels <= rule.channels)


def _costs(target: Target, twins: Sequence[Twin], name: str) -> tuple[list[tuple[float, float]], str]:
    """Return the cost of each operator in 8 bits and in float32, and the runtime."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for index, data in enumerate(data for twin in twins for data in (twin.integer, twin.real)):
            archive.writestr(zipfile.ZipInfo(f"{index:05d}"), data)
    rounds, runtime = [], ""
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        file = Path(folder) / "twins.zip"
        file.write_bytes(buffer.getvalue())
        for _ in range(PROCESSES[probing_driver(target).cost_unit]):
            probed = probe(target, file, name)
            if len(probed.costs) != 2 * len(twins):
                raise DeviceError(f"{len(probed.costs)} of {2 * len(twins)} operators were measured", where=name)
            rounds.append(probed.costs)
            runtime = probed.runtime
    # Disturbances only add to a cost.
    least = [min(costs) for costs in zip(*rounds, strict=True)]
    return list(zip(least[::2], least[1::2], strict=True)), runtime


def _between_conversions(target: Target, model: Path, name: str, origin: Origin | None) -> Advised:
    """Advise on a file whose runtime fuses conversions with operators: those left over cost for nothing."""
    found = profile(target, model, name, origin)
    operators, advice = found.operators, []
    kinds = [operator.kind for operator in operators]
    for place, operator in enumerate(operators):
        if operator.kind not in CONVERSIONS or operator.cost < LEAST_SHARE * found.total:
            continue
        back, there = "DequantizeLinear" in kinds[: place + 1], "QuantizeLinear" in kinds[place:]
        if not (back and there):
            continue  # where the integer part begins and ends, conversions have to be
        beside = next(_floats_beside(place, kinds), None)
        inner = operators[beside] if beside is not None else None
        layers = operator.layers or (inner.layers if inner else ())
        around = f"{inner.kind} stands in float32 next to it" if inner else "it only changes the scale"
        advice.append(
            Advice(
                rule="left_in_float",
                kind=operator.kind,
                name=operator.name,
                layers=layers,
                cost=operator.cost,
                float_cost=0.0,
                why=f"{around}: ONNX Runtime has no integer kernel for that",
                helps="activations: unsigned if they are signed, or "
                f"keep_float: [{layers[0] if layers else 'LAYER'}] with its neighbors",
            )
        )
    advice.sort(key=lambda one: -one.cost)
    return Advised(target=found.target, runtime=found.runtime, unit=found.unit, total=found.total, advice=tuple(advice))


def _floats_beside(place: int, kinds: Sequence[str]) -> Iterator[int]:
    """Yield places next to a conversion whose operators compute in float32."""
    for near in (place + 1, place - 1):
        if 0 <= near < len(kinds) and kinds[near] not in CONVERSIONS and not kinds[near].startswith(INTEGER):
            yield near
