"""Count the multiply-accumulates of a Keras model, layer by layer, for one sample.

**What counts** is what every paper counts: products of weights with activations in dense layers, convolutions and
recurrent cells, and of activations with each other if a layer is a matrix product (attention's queries with keys and
scores with values, `Dot`, `matmul`, `einsum`). The rule is weights times positions: a kernel is used once at each of
its positions — output positions of a convolution, input positions of a transposed one, steps of a recurrent layer, rows
of a dense one — and a layer that is called again counts again. Biases, normalization, activations, gates, pooling,
resizing, table look-ups and all other element-wise arithmetic count nothing. `layer_kinds.py` names a formula for
each kind.

**Other layers** (a user's own, `Lambda`, TensorFlow's operations) are traced, and the matrix products and convolutions
of TensorFlow's graph are counted (`graph_products.py`). If that leaves something open, the count is a lower bound and
says so (`unknown`).

**Sizes** that a model leaves free are those of runs on synthetic inputs (`free_sizes`); a fixed batch is divided out.
Shapes that Keras does not know (free sizes, positions folded into the batch) come from a trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from stages.keras.free_sizes import inputs_at, shapes_of
from stages.keras.graph import in_input_order, is_nested, nodes_in_order
from stages.keras.graph_products import products_of, products_of_node
from stages.keras.layer_kinds import kind_of, work_of_kind
from stages.keras.layer_work import NOTHING, Seen, Shape, Work, of_keras, total
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasLayer, KerasModel
from stages.keras.wrappers import wrapper_of

# Parts of the names of TensorFlow's operations that change the size of the batch, or may.
FOLDING = ("tile", "repeat", "concat", "stack", "space_to_batch", "batch_to_space", "crop_and_resize")
_free_symbols: set[str] = set()  # TensorFlow operations without products
_traces: WeakKeyDictionary[Any, dict[tuple[Shape, ...], dict[int, Any]]] = WeakKeyDictionary()  # a trace takes seconds


class Macs(NamedTuple):
    """Hold a model's MACs for one sample: a lower bound if `unknown` names layers that may take more, and why.

    `size` holds the shapes, by name and without the batch, of the inputs with open sizes; None if there are none.
    """

    number: int
    unknown: tuple[str, ...]
    size: dict[str, Shape] | None


def count_macs(model: KerasModel) -> int:
    """Return the MACs of one forward pass of one sample; `macs_of` says what may be missing."""
    return macs_of(model).number


def macs_of(model: KerasModel) -> Macs:
    """Return the MACs of one forward pass of one sample, and whether they are complete."""
    works = work_of(model)
    unknown = tuple(f"{name} ({', '.join(work.unknown)})" for name, work in works.items() if work.unknown)
    return Macs(round(sum(work.macs for work in works.values())), unknown, shapes_of(model) or None)


def kernels_of(model: KerasModel) -> list[Any]:
    """Return the weights that are multiplied or looked up; of layers that are not Keras' own, all with several axes.

    Biases and scales may have several axes too (a GRU's, an attention's, PReLU's), and are initially zero.
    """
    leaves = [leaf for layer in model.layers for leaf in layer._flatten_layers()]  # noqa: SLF001 - nested ones too
    kept = {key for work in work_of(model).values() for key in work.per_element}
    kept |= {id(weight) for leaf in leaves if not of_keras(leaf) for weight in leaf.weights}
    kept |= {id(table) for leaf in leaves if of_keras(leaf) for table in _looked_up(leaf)}
    return [weight for weight in model.weights if len(weight.shape) > 1 and id(weight) in kept]


def _looked_up(layer: KerasLayer) -> list[Any]:
    return [getattr(layer, kernel.weight) for kernel in kind_of(layer).kernels if kernel.inputs is None]


def work_of(model: KerasModel) -> dict[str, Work]:
    """Return the work of each of a model's layers over all its calls, for one sample; a nested model counts as one."""
    input_sizes = inputs_at(model, 1)
    works = {layer.name: NOTHING for layer in model.layers}
    for layer, work in _works(model, input_sizes):
        works[layer.name] += work.times(1 / input_sizes[0][0])
    return works


def input_shapes(model: KerasModel) -> dict[str, Shape]:
    """Return the shape, for one sample, of each layer's first input at its first call."""
    shapes, _ = _shapes_in(model, inputs_at(model, 1))
    first_shapes: dict[str, Shape] = {}
    for node in nodes_in_order(model):
        if not node.is_input:
            first_shapes.setdefault(node.layer.name, shapes[id(node.keras_inputs[0])])
    return first_shapes


def _works(model: KerasModel, input_sizes: Sequence[Shape]) -> Iterator[tuple[Any, Work]]:
    """Yield each call of a layer with its work, for a model called on inputs of these shapes."""
    shapes, unsure = _shapes_in(model, input_sizes)
    for node in nodes_in_order(model):
        if node.is_input:
            continue
        inputs = [id(tensor) for tensor in node.keras_inputs]
        outputs = [id(tensor) for tensor in import_tensorflow().nest.flatten(node.outputs)]
        argument = _Arguments(node, shapes).shape
        seen = Seen(tuple(shapes[key] for key in inputs), tuple(shapes[key] for key in outputs), argument)
        work = _work(node, seen, shapes)
        if work.macs and not unsure.isdisjoint([*inputs, *outputs]):
            work += Work(unknown=("sizes that are not known",))
        yield node.layer, work


@dataclass(frozen=True, slots=True)
class _Arguments:
    """Look up the shapes of a node's arguments."""

    node: Any
    shapes: dict[int, Shape]

    def shape(self, position: int, name: str) -> Shape | None:
        args, kwargs = self.node.call_args, self.node.call_kwargs
        return self.shapes.get(id(args[position] if position < len(args) else kwargs.get(name)))


def _work(node: Any, seen: Seen, shapes: dict[int, Shape]) -> Work:
    layer = node.layer
    if is_nested(layer):
        args, kwargs = node.call_args, node.call_kwargs
        tensors = in_input_order(layer, args[0] if args else kwargs["inputs"])
        return _nested(layer, [shapes[id(tensor)] for tensor in tensors])
    computing = layer.layer if wrapper_of(layer) and hasattr(layer, "layer") else layer
    if wrapper_of(layer) and computing is layer:
        return NOTHING  # tfmot's layer before a first layer only rounds
    if computing is layer and not _has_formula(layer):
        return _traced(node, seen)
    return _of_kind(computing, seen)


def _of_kind(layer: KerasLayer, seen: Seen) -> Work:
    """Return the work of a layer that may be inside another one."""
    if is_nested(layer):
        return _nested(layer, seen.inputs)
    if of_keras(layer) and type(layer).__name__ == "TimeDistributed":
        return _of_kind(layer.layer, seen.at_each_step())
    if _has_formula(layer):
        return work_of_kind(layer, seen)
    specs = [import_tensorflow().TensorSpec(shape, layer.compute_dtype) for shape in seen.inputs]
    return _told(layer, products_of(layer, specs))


def _has_formula(layer: KerasLayer) -> bool:
    """Return whether the kind determines the work: true for all of Keras' own, except those that run user code."""
    model = isinstance(layer, import_keras().Model)
    return of_keras(layer) and not kind_of(layer).traced and not model


def _nested(model: KerasModel, input_sizes: Sequence[Shape]) -> Work:
    return total([work for _, work in _works(model, input_sizes)])


def _traced(node: Any, seen: Seen) -> Work:
    symbol = getattr(node.layer, "symbol", "")
    if symbol in _free_symbols:
        return NOTHING
    products = products_of_node(node, seen.inputs)
    if of_keras(node.layer) and symbol and not products.number and not products.untold:
        _free_symbols.add(symbol)
    return _told(node.layer, products)


def _told(layer: KerasLayer, products: Any) -> Work:
    kind = type(layer).__name__
    return Work(products=float(products.number), unknown=tuple(f"{kind}: {reason}" for reason in products.untold))


def _shapes_in(model: KerasModel, input_sizes: Sequence[Shape]) -> tuple[dict[int, Shape], set[int]]:
    """Return the shape of each tensor of the model, by identity, and the tensors whose shape is unknown."""
    flatten = import_tensorflow().nest.flatten
    tensors = {id(tensor): tensor for node in nodes_in_order(model) for tensor in flatten(node.outputs)}
    declared = {key: _of_rows(tensor.shape, input_sizes[0][0]) for key, tensor in tensors.items()}
    as_declared = [declared[id(tensor)] for tensor in model.inputs] == list(input_sizes)
    if as_declared and all(map(_is_known, declared.values())) and not _moves_the_batch(model):
        return {key: _known(shape) for key, shape in declared.items()}, set()
    traces = _traces.setdefault(model, {})
    if tuple(input_sizes) not in traces:
        traces[tuple(input_sizes)] = _traced_shapes(model, tensors, input_sizes)
    traced = traces[tuple(input_sizes)]
    known = {key: _known(shape) for key, shape in (declared | traced).items()}
    return known, {key for key in tensors if key not in traced or not _is_known(traced[key])}


def _known(shape: Sequence[int | None]) -> Shape:
    return tuple(1 if size is None else int(size) for size in shape)


def _of_rows(shape: Any, rows: int) -> tuple[int | None, ...]:
    if shape.rank is None:
        return (None,)
    return tuple(rows if axis == 0 and size is None else size for axis, size in enumerate(shape))


def _is_known(shape: Sequence[int | None]) -> bool:
    return None not in shape


def _moves_the_batch(model: KerasModel) -> bool:
    """Return whether positions may have become part of the batch, whose size Keras does not know, or the reverse."""
    return any(not node.is_input and _may_fold(node) for node in nodes_in_order(model))


def _may_fold(node: Any) -> bool:
    layer, flatten = node.layer, import_tensorflow().nest.flatten
    if is_nested(layer) or wrapper_of(layer) or _has_formula(layer):
        return False
    symbol = getattr(layer, "symbol", None)
    if symbol is None:
        return True  # a user's code
    outputs = flatten(node.outputs)
    if any(tensor.shape.rank and tensor.shape[0] is not None for tensor in outputs):
        return True
    if symbol == "reshape":
        return _elements(node.keras_inputs[0]) != _elements(outputs[0])
    return any(name in symbol for name in FOLDING)


def _elements(tensor: Any) -> int:
    """Return the elements in one row of the batch."""
    return prod(size or 0 for size in tensor.shape[1:]) if tensor.shape.rank else 0


def _traced_shapes(model: KerasModel, tensors: Mapping[int, Any], input_sizes: Sequence[Shape]) -> dict[int, Any]:
    """Return the shapes of the model's tensors when it runs on inputs of these shapes; nothing if it can't."""
    tf = import_tensorflow()
    specs = [tf.TensorSpec(shape, tensor.dtype) for shape, tensor in zip(input_sizes, model.inputs, strict=True)]
    shown = import_keras().Model(model.inputs, list(tensors.values()))
    try:
        outputs = tf.function(lambda *x: shown(list(x), training=False)).get_concrete_function(*specs).outputs
    except Exception:  # noqa: BLE001 - a layer's own code may raise anything; sizes may be too small for it
        return {}
    if len(outputs) != len(tensors):  # ragged and sparse ones
        return {}
    ranks = zip(tensors, (tensor.shape for tensor in outputs), strict=True)
    return {key: tuple(shape) for key, shape in ranks if shape.rank is not None}
