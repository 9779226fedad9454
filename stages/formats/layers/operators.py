"""Find which operators of a file compute which layers of its Keras model.

Names say nothing in ONNX and little in TFLite, where a fused operator has several. Values do: on one sample, every
tensor of the file that equals a layer's output (in 8 bits: is nearer to it than to others) marks the end of that layer.
Operators between a layer's end and the ends of those before it belong to the layer. A layer that was fused into a later
one shares the operators of that one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.errors import PreconditionError
from pipeline.records.artifacts import Kind
from stages.formats.format import Arrays, FileTensor
from stages.formats.layers.agreement import TIE_DB, call_scores
from stages.formats.registry import file_tensors, shows_tensors
from stages.formats.tensors import Tensors
from stages.keras.layer_calls import LayerCall, record_layers
from stages.keras.types import KerasModel

Ends = Mapping[int, set[int]]  # place of a call -> operators that give its output
Matches = Callable[[Mapping[int, float]], list[int]]  # from a tensor's scores by place to its calls
EQUAL_DB = 80.0  # float32 runtimes agree to 100 dB and more
ALIKE_DB = 3.0  # in 8 bits, on samples that may far exceed the calibration range


def operators_of(
    layers: Sequence[str], model: KerasModel, kind: Kind, file: bytes | Path, arrays: Arrays
) -> frozenset[int]:
    """Return the places, in the float32 `file` of `model`, of all operators that compute `layers`.

    `arrays` is one sample (1, …) by input name. PreconditionError where none of the layers has an operator: some only
    pass on or rearrange what they are given.
    """
    calls = record_layers(model, arrays)
    regions = _regions(calls, _ends(calls, file_tensors(kind, file, arrays), _equal), shows_tensors(kind).reads(file))
    wanted = [position for position, call in enumerate(calls) if call.layer in layers]
    operators = {operator for position in wanted for operator in regions(position)}
    if not operators:
        raise PreconditionError(
            f"no operator of the file computes {', '.join(layers)}: what only passes on or rearranges has none",
            where="quantize.keep_float",
            hint="name the layers around it",
        )
    return frozenset(operators)


def layers_of_operators(
    model: KerasModel, kind: Kind, file: bytes | Path, arrays: Arrays, tensors: Tensors = file_tensors
) -> list[tuple[str, ...]]:
    """Return for each operator of a file of `model`, in any scheme, the layers that it computes, in execution order.

    `arrays` is one sample (1, …) by input name; `tensors` returns what the file computes. An operator that values can't
    match has none.
    """
    calls, reads = record_layers(model, arrays), shows_tensors(kind).reads(file)
    regions = _regions(calls, _ends(calls, tensors(kind, file, arrays), _nearest), reads)
    layers: list[dict[str, None]] = [{} for _ in reads]
    for position, call in enumerate(calls):
        for operator in regions(position):
            layers[operator][call.layer] = None
    return [tuple(names) for names in layers]


def _ends(calls: Sequence[LayerCall], tensors: Iterable[FileTensor], matches: Matches) -> Ends:
    ends: dict[int, set[int]] = {}
    for tensor in tensors:
        for position in matches(call_scores(calls, tensor)):
            ends.setdefault(position, set()).add(tensor.operator)
    return ends


def _equal(scores: Mapping[int, float]) -> list[int]:
    return [position for position, score in scores.items() if score >= EQUAL_DB]


def _nearest(scores: Mapping[int, float]) -> list[int]:
    # Relative to the best: in 8 bits no tensor equals its layer, and how near the best one comes differs from layer to
    # layer.
    least = max(max(scores.values(), default=0.0) - TIE_DB, ALIKE_DB)
    return [position for position, score in scores.items() if score >= least]


def _regions(calls: Sequence[LayerCall], ends: Ends, reads: Sequence[frozenset[int]]) -> Callable[[int], set[int]]:
    """Return a function from a call's place to its operators, given where calls end."""
    readers = _readers(calls)
    return lambda position: _region(position, ends, reads, readers)


def _region(position: int, ends: Ends, reads: Sequence[frozenset[int]], readers: Sequence[set[int]]) -> set[int]:
    """Return the operators between a call's end, or that of what it was fused into, and the ends of earlier calls."""
    after = _reachable(position, readers)
    # Calls that depend on this one are no borders: where a layer was fused into a later one, the later one's end is
    # also its own.
    borders = {operator for other, operators in ends.items() if other not in after for operator in operators}
    pending = [operator for end in _first_ends(position, ends, readers) for operator in ends[end]]
    region: set[int] = set()
    while pending:
        operator = pending.pop()
        if operator not in borders and operator not in region:
            region.add(operator)
            pending.extend(reads[operator])
    return region


def _first_ends(start: int, ends: Ends, readers: Sequence[set[int]]) -> Iterable[int]:
    """Return the call itself if the file holds its output, else the nearest after it on each path."""
    pending, seen = deque([start]), {start}
    while pending:
        position = pending.popleft()
        if position in ends:
            yield position
            continue
        new = readers[position] - seen
        seen |= new
        pending.extend(sorted(new))


def _reachable(start: int, readers: Sequence[set[int]]) -> set[int]:
    """Return a call and all that depends on it."""
    reached, pending = {start}, [start]
    while pending:
        new = readers[pending.pop()] - reached
        reached |= new
        pending.extend(new)
    return reached


def _readers(calls: Sequence[LayerCall]) -> list[set[int]]:
    readers: list[set[int]] = [set() for _ in calls]
    for position, call in enumerate(calls):
        for read in call.reads:
            readers[read].add(position)
    return readers
