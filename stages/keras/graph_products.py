"""Count products in TensorFlow's own graph of a call, for layers without a formula of ours.

A call of a layer is traced on given shapes (nothing is computed), and the products of its matrix multiplications and
convolutions are counted from the operations' shapes. What the graph does not tell is reported: loops with an unknown
number of rounds, Python functions, solvers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from stages.keras.graph import SingleSource
from stages.keras.tensorflow import import_tensorflow

Shape = tuple[int | None, ...]

# Operations that multiply and have no entry in COUNTS: better unknown than counted as nothing.
UNTOLD = re.compile(
    r"MatMul|Conv\d|PyFunc|FFT|Xla|Cudnn|Matrix(?!Diag|BandPart|SetDiag)|Cholesky|Svd|Qr$|Eig|RNN|LSTM|GRU"
)
LOOPS = frozenset({"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"})
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


class NotToldError(Exception):
    """Raised if the graph does not say how many products a call takes; the message is the operation."""


@dataclass(frozen=True, slots=True)
class Products:
    """Hold how many products were found, and the operations that may take more; none if the number is exact."""

    number: int
    untold: tuple[str, ...] = ()


def products_of(call: Callable[..., Any], specs: Sequence[Any]) -> Products:
    """Return what `call` takes on tensors of these specifications (`tf.TensorSpec`)."""
    try:
        graph = import_tensorflow().function(call, autograph=False).get_concrete_function(*specs).graph
    except Exception as error:  # noqa: BLE001 - a layer's own code may raise anything, and the model works all the same
        return Products(0, (f"its call can't be traced: {type(error).__name__}",))
    return _summed(graph, {body.signature.name: body for body in graph.as_graph_def().library.function})


def products_of_node(node: Any, shapes: Sequence[Shape]) -> Products:
    """Return what one call of a layer, a node of Keras' graph, takes on inputs of these shapes (batch first)."""
    inputs, specified = node.keras_inputs, import_tensorflow().TensorSpec

    def call(*tensors: Any) -> Any:
        sources = {str(id(old)): SingleSource(new) for old, new in zip(inputs, tensors, strict=True)}
        args, kwargs = node.map_arguments(sources)
        if node.layer._expects_training_arg:  # noqa: SLF001 - Keras' own way to know
            kwargs = {**kwargs, "training": False}
        return node.layer(*args, **kwargs)

    return products_of(call, [specified(shape, old.dtype) for shape, old in zip(shapes, inputs, strict=True)])


def _summed(graph: Any, library: Mapping[str, Any]) -> Products:
    """Sum a graph; `library` has the functions that its operations call, by name."""
    number, untold = 0, []
    for operation in graph.get_operations():
        try:
            number += _products(operation, library)
        except NotToldError as error:
            untold.append(str(error))
    return Products(number, tuple(dict.fromkeys(untold)))


def _products(operation: Any, library: Mapping[str, Any]) -> int:
    kind = operation.type
    if kind in CALLS:
        inner = _summed(_body(operation, operation.get_attr("f").name, library), library)
        if inner.untold:
            raise NotToldError(inner.untold[0])
        return inner.number
    if kind in LOOPS:
        # How often a loop runs is not in the graph. One without products costs nothing however often it does.
        for name in _branches(operation):
            inner = _summed(_body(operation, name, library), library)
            if inner.number or inner.untold:
                raise NotToldError("a loop or branch around products")
        return 0
    count = COUNTS.get(kind)
    if count is not None:
        return count(operation)
    if UNTOLD.search(kind):
        raise NotToldError(kind)
    return 0


def _branches(operation: Any) -> Iterator[str]:
    for value in operation.node_def.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _body(operation: Any, name: str, library: Mapping[str, Any]) -> Any:
    """Return the graph of a function that an operation calls, with the shapes that it is called on."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

    if name not in library:
        raise NotToldError(f"the function {name}")
    # A branch does not get all inputs of its operation (the condition is left out), and inputs of a loop may change
    # their shape from round to round: only calls pass theirs on unchanged.
    shapes = [tensor.shape for tensor in operation.inputs] if operation.type in CALLS else None
    return function_def_to_graph(library[name], input_shapes=shapes)


def _shape(tensor: Any) -> tuple[int, ...]:
    shape = tensor.shape
    if not shape.is_fully_defined():
        raise NotToldError(f"{tensor.op.type} on sizes that are not known")
    return tuple(shape.as_list())


def _matrices(operation: Any) -> int:
    attributes = operation.node_def.attr
    across = attributes["transpose_a"].b or attributes["adj_x"].b
    return prod(_shape(operation.outputs[0])) * _shape(operation.inputs[0])[-2 if across else -1]


def _einsum(operation: Any) -> int:
    equation = operation.get_attr("equation").decode()
    return einsum_products(equation, [_shape(tensor) for tensor in operation.inputs])


def einsum_products(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the product of the sizes of all indices; 0 for one operand, which is not multiplied with anything."""
    terms = equation.partition("->")[0].split(",")
    if len(terms) == 1:
        return 0
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for index, size in zip(_indices(term.strip(), len(shape)), shape, strict=True):
            # Einsum broadcasts axes of size 1.
            sizes[index] = max(size, sizes.get(index, 1))
    return prod(sizes.values())


def _indices(term: str, rank: int) -> Iterable[str]:
    """Return one name per axis; those that an ellipsis represents are numbered from the last."""
    before, ellipsis, after = term.partition("...")
    hidden = rank - len(before) - len(after) if ellipsis else 0
    return [*before, *(f".{hidden - position}" for position in range(hidden)), *after]


def _convolution(operation: Any) -> int:
    return prod(_shape(operation.outputs[0])) * prod(_shape(operation.inputs[1])[:-1])


def _depthwise(operation: Any) -> int:
    return prod(_shape(operation.outputs[0])) * prod(_shape(operation.inputs[1])[:-2])


def _transposed(operation: Any) -> int:
    """Count a kernel (…, output, input channels) at each position of the input."""
    return prod(_shape(operation.inputs[2])) * prod(_shape(operation.inputs[1])[:-1])


COUNTS = {
    "MatMul": _matrices,
    "BatchMatMul": _matrices,
    "BatchMatMulV2": _matrices,
    "BatchMatMulV3": _matrices,
    "Einsum": _einsum,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    "Conv3DBackpropInputV2": _transposed,
}
