"""Count how often each weight of a layer is multiplied in one call: formulas over shapes.

Every element of a kernel is multiplied once at each position of the kernel, so a formula says which weights these are
and at how many positions. Attention also multiplies activations with each other. `layer_kinds.py` says which kind of
layer has which formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from stages.keras.graph_products import einsum_products
from stages.keras.types import KerasLayer

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """Hold products: each of `uses` is a weight and how often each of its elements is multiplied, `products` the rest.

    `unknown` says what may take more than is counted; nothing if the count is exact.
    """

    uses: tuple[tuple[Any, float], ...] = ()
    products: float = 0.0
    unknown: tuple[str, ...] = ()

    @property
    def macs(self) -> float:
        return self.products + sum(float(prod(weight.shape)) * times for weight, times in self.uses)

    @property
    def per_element(self) -> dict[int, float]:
        """Return how often an element of each weight is multiplied, by the weight's identity."""
        counts: dict[int, float] = {}
        for weight, times in self.uses:
            counts[id(weight)] = counts.get(id(weight), 0.0) + times
        return counts

    def times(self, number: float) -> Work:
        """Repeat the same work `number` times."""
        uses = tuple((weight, often * number) for weight, often in self.uses)
        return Work(uses, self.products * number, self.unknown)

    def __add__(self, other: Work) -> Work:
        unknown = tuple(dict.fromkeys((*self.unknown, *other.unknown)))
        return Work((*self.uses, *other.uses), self.products + other.products, unknown)


NOTHING = Work()


def total(works: Sequence[Work]) -> Work:
    """Sum all of them."""
    uses = tuple(use for work in works for use in work.uses)
    unknown = tuple(dict.fromkeys(reason for work in works for reason in work.unknown))
    return Work(uses, sum(work.products for work in works), unknown)


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold one call of a layer: shapes of inputs and outputs, batch first, all sizes known.

    `argument` returns the shape of an argument by its place or name; None if the call has none there.
    """

    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    argument: Callable[[int, str], Shape | None] = lambda _place, _name: None

    def at_each_step(self) -> Seen:
        """Return the call of the layer inside TimeDistributed: the time axis joins the batch."""
        return replace(self, inputs=_folded(self.inputs), outputs=_folded(self.outputs))


def _folded(shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    return tuple((shape[0] * shape[1], *shape[2:]) for shape in shapes)


Formula = Callable[[Any, Seen], Work]


def dense(layer: KerasLayer, seen: Seen) -> Work:
    """Count the matrix at each position of the other axes."""
    return Work(((layer.kernel, prod(seen.inputs[0][:-1])),))


def einsum_dense(layer: KerasLayer, seen: Seen) -> Work:
    """Count all indices of the equation: those of the input, and those that only the kernel has."""
    products = einsum_products(layer.equation, [seen.inputs[0], tuple(layer.kernel.shape)])
    return Work(((layer.kernel, products / prod(layer.kernel.shape)),))


def convolution(layer: KerasLayer, seen: Seen) -> Work:
    """Count the kernel at each output position; each group's part of it reads that group alone."""
    return Work(((layer.kernel, prod(seen.outputs[0]) / layer.filters),))


def depthwise(layer: KerasLayer, seen: Seen) -> Work:
    """Count the kernel at each output position; an output channel reads one input channel."""
    kernel = layer.depthwise_kernel
    return Work(((kernel, prod(seen.outputs[0]) / prod(kernel.shape[-2:])),))


def separable(layer: KerasLayer, seen: Seen) -> Work:
    """Count both kernels at each output position: the strides are the depthwise one's."""
    positions = prod(seen.outputs[0]) / layer.filters
    return Work(((layer.depthwise_kernel, positions), (layer.pointwise_kernel, positions)))


def transposed(layer: KerasLayer, seen: Seen) -> Work:
    """Count the whole kernel at each input position, whatever padding cuts off or `output_padding` adds."""
    return Work(((layer.kernel, prod(seen.inputs[0]) / layer.kernel.shape[-1]),))


def locally_connected(layer: KerasLayer, seen: Seen) -> Work:
    """Count a separate kernel at each output position, in whichever form (`implementation`) Keras holds them."""
    channels = seen.inputs[0][1 if layer.data_format == "channels_first" else -1]
    products = prod(seen.outputs[0]) * prod(layer.kernel_size) * channels
    return Work(((layer.kernel, products / prod(layer.kernel.shape)),))


def recurrent(layer: KerasLayer, seen: Seen) -> Work:
    """Count each cell's kernels, those for its input and those for its state, once a step. Gates add no products."""
    return total([_cell(cell) for cell in _cells(layer.cell)]).times(seen.inputs[0][0] * seen.inputs[0][1])


CELLS = frozenset({"SimpleRNNCell", "GRUCell", "LSTMCell", "PeepholeLSTMCell"})


def _cell(cell: Any) -> Work:
    if not of_keras(cell) or type(cell).__name__ not in CELLS:
        return Work(unknown=(f"a cell {type(cell).__name__}",))
    return Work(((cell.kernel, 1.0), (cell.recurrent_kernel, 1.0)))


def _cells(cell: Any) -> Iterator[Any]:
    """Yield the cells of a stack, and those in wrappers (dropout, residual), one by one."""
    if of_keras(cell) and type(cell).__name__ == "StackedRNNCells":
        for inner in cell.cells:
            yield from _cells(inner)
    elif of_keras(cell) and hasattr(cell, "cell"):
        yield from _cells(cell.cell)
    else:
        yield cell


def recurrent_convolution(layer: KerasLayer, seen: Seen) -> Work:
    """Count the cell's two kernels at each position of its state, once a step."""
    shape = seen.outputs[0][2 if layer.return_sequences else 1 :]
    spatial = shape[1:] if layer.data_format == "channels_first" else shape[:-1]
    times = seen.inputs[0][0] * seen.inputs[0][1] * prod(spatial)
    return Work(((layer.cell.kernel, times), (layer.cell.recurrent_kernel, times)))


def multi_head_attention(layer: KerasLayer, seen: Seen) -> Work:
    """Count four projections, and for each head queries with keys, and their scores with values."""
    query, value = seen.argument(0, "query"), seen.argument(1, "value")
    if query is None or value is None:
        return Work(unknown=("MultiHeadAttention called in a way that is not known",))
    key = seen.argument(2, "key") or value
    queries, keys, values, joined = (getattr(layer, f"_{name}_dense") for name in ("query", "key", "value", "output"))
    projections = ((queries, query), (keys, key), (values, value), (joined, query))
    uses = tuple((dense.kernel, float(prod(shape[:-1]))) for dense, shape in projections)
    pairs = prod(query[:-1]) * prod(key[axis] for axis in layer._attention_axes)  # noqa: SLF001 - Keras has no public
    heads, sizes = layer._num_heads, layer._key_dim + layer._value_dim  # noqa: SLF001 - names for them
    return Work(uses, float(pairs * heads * sizes))


def attention(layer: KerasLayer, seen: Seen) -> Work:
    """Count queries with keys, and their scores with values; inputs are (batch, positions, channels)."""
    query, value = seen.inputs[:2]
    key = seen.inputs[2] if len(seen.inputs) > 2 else value
    pairs = query[0] * query[1] * key[1]
    scored = query[2] if getattr(layer, "score_mode", "dot") == "dot" else 0  # the other mode adds, and sums
    return Work(products=float(pairs * (scored + value[2])))


def additive_attention(layer: KerasLayer, seen: Seen) -> Work:
    """Count the scale, if there is one, with the sum of each query-key pair; then scores with values."""
    query, value = seen.inputs[:2]
    key = seen.inputs[2] if len(seen.inputs) > 2 else value
    pairs = float(query[0] * query[1] * key[1])
    scored = ((layer.scale, pairs),) if layer.use_scale else ()
    return Work(scored, pairs * value[2])


def dot(layer: KerasLayer, seen: Seen) -> Work:
    """Count all of one input with all of the other, except for the axis that both share and the batch."""
    first, second = seen.inputs
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return Work(products=float(prod(first) * prod(second) // (first[axis] * first[0])))


def of_keras(layer: KerasLayer) -> bool:
    """Return whether a layer's class is one of Keras' own: a user's subclass may do anything."""
    return type(layer).__module__.partition(".")[0] == "tf_keras"
