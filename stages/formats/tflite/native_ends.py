"""Refuse what is known to crash third-party software before it gets there.

There are two tables. One lists layers, known from the model's configuration before anything is converted. The other
lists operators in a converted file whose numbers LiteRT checks by ending the process. Each row says which versions were
tried. Loops in integers are not here: `recurrent` writes them out, or refuses them itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UnsupportedError
from pipeline.records.schemes import Quantization, Scheme
from pipeline.records.values import Json
from stages.formats.layers.owners import owners_of, stored_config
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import Tensor

# The shifts of ADD and SUB (tensorflow/lite/kernels/add.cc): the shifted sum still fits into 32 bits.
INTEGERS = {9: 20, 7: 15}  # a tensor's type in a TFLite file, int8 and int16, and by how many bits sums are shifted
SUMS, RATIOS = (
    ("ADD", "SUB"),
    ("SQUARED_DIFFERENCE", "EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"),
)


@dataclass(frozen=True, slots=True)
class KnownEnd:
    """Describe layers of a kind that crash something in a scheme; `instead` is the workaround."""

    kinds: frozenset[str]
    scheme: Scheme
    why: str
    instead: str


TFLITE = (
    KnownEnd(
        kinds=frozenset({"LayerNormalization"}),
        scheme="int16x8",
        why="in 16 bits LiteRT 2.3 ends while it allocates what TensorFlow 2.21's converter makes of it",
        instead="take int8, weight_only or float16",
    ),
)


def refuse_layers(model: Path, how: Quantization, where: str | None) -> None:
    """Raise UnsupportedError if a stored Keras model holds a layer that is known to crash what processes it."""
    if not any(known.scheme == how.scheme for known in TFLITE):
        return
    config = stored_config(model)
    for known in TFLITE:
        names = [name for kind, name in layers_in(config["config"]) if kind in known.kinds]
        if known.scheme == how.scheme and names:
            what = f"{', '.join(sorted(known.kinds))} can't be made in {how.scheme} ({', '.join(names)}): {known.why}"
            raise UnsupportedError(what, where=where, hint=known.instead)


def layers_in(config: Json, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield class and name of all layers in a model's configuration; nested and wrapped ones as `outer/inner`."""
    if isinstance(config, Mapping):
        inner = config.get("config")
        if "class_name" in config and isinstance(inner, Mapping) and "name" in inner:
            yield str(config["class_name"]), f"{prefix}{inner['name']}"
            prefix = f"{prefix}{inner['name']}/"
        for value in config.values():
            yield from layers_in(value, prefix)
    elif isinstance(config, list):
        for value in config:
            yield from layers_in(value, prefix)


def refuse_operators(model: KerasModel, data: bytes, where: str | None) -> None:
    """Raise UnsupportedError if LiteRT would crash while it allocates a TFLite file; names the first such operator.

    The operator is named by the layer of the Keras `model` that it computes.

    LiteRT's kernels require the scales of a sum's inputs and output within a number of bits of each other, and end the
    process otherwise: for example if all that calibration saw of a sum is zero, or a constant in it is.
    """
    for kind, name, scales, bits in _quantized_pairs(data):
        reason = _impossible(kind, scales, bits)
        if reason:
            raise UnsupportedError(
                f"LiteRT can't load the file: {reason} at {kind} of {owners_of(model).said_of(name)}",
                where=where,
                hint="a sum that is zero on all calibration samples has no range: cut its branches, keep their "
                "layers in float (keep_float), or take dynamic, weight_only or float16",
            )


def _impossible(kind: str, scales: tuple[float, ...], bits: int) -> str | None:
    """Return what is wrong with the scales of two inputs and the output of an operator that works in `bits`."""
    first, second, output = scales
    # As ADD and SUB compute it in Prepare (add.cc): QuantizeMultiplierSmallerThanOneExp ends the process unless the
    # multipliers that it is given, those of both inputs and of the output, lie between 0 and 1.
    widest = 2 * max(first, second)
    if not (first > 0 and second > 0 and first / widest > 0 and second / widest > 0):
        return "an input is zero, without a scale,"
    if kind in SUMS and not (output > 0 and widest / ((1 << bits) * output) < 1):
        return (
            f"the output's range is {widest / 2 / output:.1e} times smaller than its inputs'" if output else "no scale"
        )
    return None


def _quantized_pairs(data: bytes) -> Iterator[tuple[str, str, tuple[float, ...], int]]:
    """Yield integer operators with two inputs: kind, name of the output, the three scales, and bits of the shift."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    named = [kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    for graph in (model.Subgraphs(index) for index in range(model.SubgraphsLength())):
        for operator in (graph.Operators(index) for index in range(graph.OperatorsLength())):
            kind = named[operator.OpcodeIndex()]
            if kind not in (*SUMS, *RATIOS):
                continue
            places = [*operator.InputsAsNumpy(), *operator.OutputsAsNumpy()]
            tensors = [graph.Tensors(int(index)) for index in places]
            if len(tensors) == 3 and tensors[0].Type() in INTEGERS:
                scales = tuple(_scale(tensor) for tensor in tensors)
                yield kind, tensors[2].Name().decode(), scales, INTEGERS[tensors[0].Type()]


def _scale(tensor: Tensor) -> float:
    """Return a tensor's scale; 1 if it has none because its kind is never quantized, like a comparison's result."""
    quantization = tensor.Quantization()
    return float(quantization.Scale(0)) if quantization is not None and quantization.ScaleLength() else 1.0
