"""Fix ranges of activations between the converter's calibration and its quantization, if they would make a bad file.

The calibrated file is float32 with a minimum and a maximum next to each tensor; these are changed in place.

- Inputs whose values lie halfway between steps get a wider range (see `input_ranges.py`).
- A tensor that is zero on all samples (a dead ReLU) would get a step of 8e-9, and LiteRT refuses operators whose
  inputs' steps are 256 times their outputs' and more. Such ranges are widened until the step is a 128th of the
  operator's resolution, so that no accuracy is lost.
- TensorFlow 2.21's quantizer gives tensors that must share one scale the range of one of them, if a REVERSE_V2 is among
  them (bidirectional layers that return sequences): the others were clipped, outputs off by 96 % of their spread. They
  all get the union of their ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.formats.format import Arrays
from stages.samples.input_ranges import off_the_ties

if TYPE_CHECKING:
    from numpy.typing import NDArray

KERNELS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
SUMS = frozenset({"ADD", "SUB"})
ALIKE = SUMS | {"MEAN", "SUM", "RELU", "RELU6", "LEAKY_RELU", "PRELU", "HARD_SWISH"}  # outputs in the inputs' order
JOINED = frozenset({"CONCATENATION", "PACK", "SPLIT", "SPLIT_V", "UNPACK"})
MOVED = frozenset({"EXPAND_DIMS", "RESHAPE", "REVERSE_V2", "SLICE", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE"})
SHARED = JOINED | MOVED  # operators whose inputs and outputs have one scale
FINEST = 128  # an output's step relative to the input's; LiteRT takes less than 256
LEAST_OF_SUM = 512  # an operand's step relative to its sum's; LiteRT takes up to 1,024
STEPS, LEVELS = 255, 127


@dataclass(frozen=True, slots=True)
class _Operator:
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Ranges:
    """Hold the measured ranges of a calibrated file's tensors by index; setting one changes the file."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        # A flatbuffer's vectors can be written in place as long as their lengths stay.
        self._data = bytearray(data)
        self._model = schema.Model.GetRootAs(self._data, 0)
        signature = self._model.SignatureDefs(0)
        self._graph = self._model.Subgraphs(signature.SubgraphIndex())
        inputs = (signature.Inputs(index) for index in range(signature.InputsLength()))
        outputs = (signature.Outputs(index) for index in range(signature.OutputsLength()))
        self.inputs: dict[str, int] = {pair.Name().decode(): pair.TensorIndex() for pair in inputs}
        self.outputs: dict[str, int] = {pair.Name().decode(): pair.TensorIndex() for pair in outputs}

    @property
    def data(self) -> bytes:
        """Return the file as it is now."""
        return bytes(self._data)

    def __getitem__(self, tensor: int) -> tuple[float, float] | None:
        """Return minimum and maximum, widened to include zero as quantizers need; None for what was not measured."""
        measured = self._measured(tensor)
        return None if measured is None else (min(float(measured[0][0]), 0.0), max(float(measured[1][0]), 0.0))

    def __setitem__(self, tensor: int, limits: tuple[float, float]) -> None:
        measured = self._measured(tensor)
        if measured is not None:
            measured[0][0], measured[1][0] = limits

    def _measured(self, tensor: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
        quantization = self._graph.Tensors(tensor).Quantization()
        if quantization is None or quantization.MinLength() != 1 or quantization.MaxLength() != 1:
            return None
        return quantization.MinAsNumpy(), quantization.MaxAsNumpy()

    def width(self, tensor: int) -> float:
        """Return the width of the range, 0 for what was not measured."""
        low, high = self[tensor] or (0.0, 0.0)
        return high - low

    def widen(self, tensor: int, width: float) -> None:
        """Raise the maximum, or lower the minimum if the range is all negative, until the range has this width."""
        limits = self[tensor]
        if limits is not None and limits[1] - limits[0] < width:
            low, high = limits
            self[tensor] = (high - width, high) if low < 0 and high == 0 else (low, low + width)

    def largest(self, tensor: int) -> float:
        """Return the largest absolute number of a float32 constant, 0 if it is not one."""
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema

        stored = self._graph.Tensors(tensor)
        buffer = self._model.Buffers(stored.Buffer())
        if stored.Type() != schema.TensorType.FLOAT32 or not buffer.DataLength():
            return 0.0
        return float(np.abs(buffer.DataAsNumpy().view(np.float32)).max())

    def operators(self) -> Iterator[_Operator]:
        """Yield operators in execution order."""
        from ai_edge_litert import schema_py_generated as schema

        names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
        for index in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(index)
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            ends = (operator.InputsAsNumpy(), operator.OutputsAsNumpy())
            # flatbuffers gives 0 for a vector that is absent.
            inputs, outputs = (tuple(int(i) for i in end if i >= 0) if not isinstance(end, int) else () for end in ends)
            yield _Operator(names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())], inputs, outputs)


def make_usable(ranges: Ranges, arrays: Arrays) -> None:
    """Change ranges that would make a bad file; `arrays` are the samples by input name."""
    for name, tensor in ranges.inputs.items():
        limits = ranges[tensor]
        if limits is not None and name in arrays:
            wider = off_the_ties(arrays[name], *limits)
            if wider != limits:
                ranges[tensor] = wider
    operators = list(ranges.operators())
    for tensors in _reversed_together(operators):
        known = [measured for measured in map(ranges.__getitem__, tensors) if measured is not None]
        for tensor in tensors if known else ():
            ranges[tensor] = (min(low for low, _ in known), max(high for _, high in known))
    for operator in operators:
        for tensor in operator.outputs:
            ranges.widen(tensor, _least_width(ranges, operator))
    for operator in operators:
        for tensor in operator.inputs if operator.kind in SUMS else ():
            ranges.widen(tensor, ranges.width(operator.outputs[0]) / LEAST_OF_SUM)


def _least_width(ranges: Ranges, operator: _Operator) -> float:
    """Return how wide an operator's output range must be for its step to be usable; 0 if unknown."""
    widths = [ranges.width(tensor) for tensor in operator.inputs]
    if operator.kind in KERNELS and len(operator.inputs) > 1:
        # Its first input is the output's size, and the image is the third.
        image = 2 if operator.kind == "TRANSPOSE_CONV" else 0
        return widths[image] * ranges.largest(operator.inputs[1]) / (LEVELS * FINEST)
    if operator.kind == "MUL":
        first, second = (w or ranges.largest(t) for t, w in zip(operator.inputs, widths, strict=True))
        return first * second / (STEPS * FINEST)
    return max(widths, default=0.0) / FINEST if operator.kind in ALIKE else 0.0


def _reversed_together(operators: Sequence[_Operator]) -> list[list[int]]:
    """Return the groups of tensors that must share one scale, of those in which something is reversed."""
    groups: list[tuple[set[int], bool]] = []
    for operator in operators:
        if operator.kind in SHARED:
            tensors, turned = {*operator.inputs, *operator.outputs}, operator.kind == "REVERSE_V2"
            met = [group for group in groups if group[0] & tensors]
            groups = [group for group in groups if group not in met]
            groups.append((tensors.union(*(group[0] for group in met)), turned or any(group[1] for group in met)))
    return [sorted(tensors) for tensors, turned in groups if turned]
