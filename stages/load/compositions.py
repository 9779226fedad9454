"""Compose TensorFlow graph nodes that no public function creates in tf_keras' storable form from those that can.

An einsum takes any number of tensors, of which a tf_keras file keeps only the first; an update of a slice is an
operation of another compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasTensor, KerasValue, TfOperation


class UntraceableError(Exception):
    """Raised with the reason why a graph can't be translated."""


def einsum(node: TfOperation, inputs: Sequence[KerasValue]) -> KerasValue:
    """Compute an einsum as transposed matrices and their product; axes of one tensor alone are summed first."""
    equation = node.get_attr("equation").decode()
    terms, _, out = equation.partition("->")
    labels = terms.split(",")
    if len(labels) > 2 or any(len(set(term)) < len(term) or "." in term for term in [*labels, out]):
        raise UntraceableError(f"it has the einsum {equation}")
    if len(labels) == 1:
        tensor, term = _summed(inputs[0], labels[0], out)
        return _ordered(tensor, term, out)
    pairs = [_summed(t, term, out + labels[1 - n]) for n, (t, term) in enumerate(zip(inputs, labels, strict=True))]
    return _product(pairs[0], pairs[1], out)


def _product(left: tuple[KerasValue, str], right: tuple[KerasValue, str], out: str) -> KerasTensor:
    tf = import_tensorflow()
    (a, term_a), (b, term_b) = left, right
    shared = [label for label in term_a if label in term_b]
    batch = "".join(label for label in shared if label in out)
    inner = "".join(label for label in shared if label not in out)
    rows, columns = ("".join(label for label in term if label not in shared) for term in (term_a, term_b))
    first = _matrices(a, term_a, (batch, rows, inner))
    second = _matrices(b, term_b, (batch, inner, columns))
    product = tf.linalg.matmul(first, second)
    sizes = dict(zip(term_a, _sizes(a), strict=True)) | dict(zip(term_b, _sizes(b), strict=True))
    made = batch + rows + columns
    if (len(rows), len(columns)) != (1, 1):
        product = tf.reshape(product, _shape(product, [sizes[label] for label in made], len(batch)))
    return _ordered(product, made, out)


def _matrices(tensor: KerasValue, term: str, parts: tuple[str, str, str]) -> KerasValue:
    """Group the axes of each part together, and merge each of the last two parts into one axis."""
    tf = import_tensorflow()
    batch, first, second = parts
    ordered = _ordered(tensor, term, batch + first + second)
    if (len(first), len(second)) == (1, 1):
        return ordered
    sizes = _sizes(ordered)
    cut = len(batch) + len(first)
    merged = [_together(sizes[len(batch) : cut]), _together(sizes[cut:])]
    return tf.reshape(ordered, _shape(ordered, [*sizes[: len(batch)], *merged], len(batch)))


def _shape(tensor: KerasValue, sizes: list[int | None], batch: int) -> KerasValue:
    """Return a usable shape: one size may be left to TensorFlow, those of the batch are looked up."""
    tf = import_tensorflow()
    free = [axis for axis, size in enumerate(sizes) if size is None]
    if len(free) <= 1:
        return [-1 if size is None else size for size in sizes]
    if any(axis >= batch for axis in free[:-1]):
        raise UntraceableError("it has an einsum over several sizes that are free")
    actual = tf.shape(tensor)
    kept = [actual[axis] if size is None and axis != free[-1] else size for axis, size in enumerate(sizes)]
    return tf.stack([-1 if size is None else size for size in kept])


def _together(sizes: Sequence[int | None]) -> int | None:
    product = 1
    for size in sizes:
        if size is None:
            return None
        product *= size
    return product


def _sizes(tensor: KerasValue) -> list[int | None]:
    return list(tensor.shape)


def _summed(tensor: KerasValue, term: str, kept: str) -> tuple[KerasValue, str]:
    """Sum over the axes that nothing else has."""
    alone = [axis for axis, label in enumerate(term) if label not in kept]
    if not alone:
        return _array(tensor), term
    summed = import_tensorflow().reduce_sum(_array(tensor), axis=alone)
    return summed, "".join(label for label in term if label in kept)


def _array(value: KerasValue) -> KerasValue:
    return value if hasattr(value, "_keras_history") else np.asarray(value, "float32")


def _ordered(tensor: KerasValue, term: str, wanted: str) -> KerasValue:
    if term == wanted:
        return tensor
    order = [term.index(label) for label in wanted]
    if not hasattr(tensor, "_keras_history"):
        return tensor.transpose(order)
    return import_tensorflow().transpose(tensor, order)


def updated_slice(node: TfOperation, input: KerasValue, update: KerasValue, indices: KerasValue) -> KerasTensor:  # noqa: A002 - the node's own names
    """Return `input` with `update` from `indices` on: the update padded to its size, at its place."""
    tf = import_tensorflow()
    if hasattr(indices, "_keras_history") or hasattr(update, "_keras_history"):
        raise UntraceableError("it updates a slice by what is not known")
    whole = tf.shape(input)
    new = np.asarray(update, node.inputs[1].dtype.as_numpy_dtype)
    sizes = [whole[axis] if size is None else size for axis, size in enumerate(input.shape)]
    padding = [[int(s), size - int(s) - n] for s, size, n in zip(indices, sizes, new.shape, strict=True)]
    if None in tuple(input.shape):
        padding = tf.stack([tf.stack(pair) for pair in padding])
    return tf.where(_padded(np.ones(new.shape, bool), padding), _padded(new, padding), input)


def _padded(value: KerasValue, padding: KerasValue) -> KerasValue:
    if isinstance(padding, list):
        # Plain numbers, because arguments of an operation are stored as JSON.
        return np.pad(value, padding).tolist()
    tf = import_tensorflow()
    return tf.cast(tf.pad(value.astype("float32").tolist(), padding), value.dtype.name)


def bucketized(node: TfOperation, input: KerasTensor) -> KerasTensor:  # noqa: A002 - the node's own name
    """Return between which boundaries each number lies."""
    tf = import_tensorflow()
    buckets = tf.searchsorted(node.get_attr("boundaries"), tf.reshape(tf.cast(input, "float32"), [-1]), side="right")
    return tf.reshape(buckets, tf.shape(input))


COMPOSED: Mapping[str, Callable[..., KerasTensor]] = {
    "Bucketize": bucketized,
    "Einsum": einsum,
    "XlaDynamicUpdateSlice": updated_slice,
}
