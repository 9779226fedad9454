"""Translate a Keras 3 layer or operation through the TensorFlow graph that Keras 3 itself makes of it.

If tf_keras has no such layer, the call is traced at inference, and each node of the graph is made again on tf_keras'
tensors by the public TensorFlow function that computes the same (`raw_operations`): so the result is plain tf_keras
operations, which can be stored and exported. Parts that depend on constants and known sizes alone are computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasTensor, KerasValue, TfOperation, TfTensor
from stages.load.compositions import UntraceableError
from stages.load.raw_operations import CONTROL, PASSING, RANDOM, call_public, evaluated

if TYPE_CHECKING:
    from numpy.typing import NDArray

FREE = (3, 7)  # values tried for a free size: results of size arithmetic that agree for both are known
JOINING = frozenset({"Pack", "ConcatV2"})
# Whatever is computed from a free size stays in the graph. Agreement on two sizes proves nothing: half of an odd number
# of samples, rounded, was once taken for a constant.
MOVING = JOINING | {"Cast", "ExpandDims", "GatherV2", "Reshape", "Slice", "Split", "Squeeze", "StridedSlice", "Unpack"}

# Makes, of a variable's handle and any tensor of tf_keras, a tensor of tf_keras that holds it.
Holder = Callable[[TfTensor, KerasTensor], KerasTensor]


@dataclass
class _Value:
    """Hold a tensor of the traced graph: a constant, or one of tf_keras that is made on first use.

    `samples` are its values for each of FREE, if it depends on sizes alone.
    """

    constant: KerasValue = None
    samples: tuple[NDArray[Any], ...] = ()
    make: Callable[[], KerasTensor] | None = None
    made: KerasTensor = field(default=None, repr=False)

    def tensor(self) -> KerasValue:
        """Return the tensor of tf_keras, or the constant as an array."""
        if self.make is None:
            return self.constant
        if self.made is None:
            self.made = self.make()
        return self.made


def traced(call: Callable[..., Any], arguments: KerasValue, hold: Holder) -> list[KerasTensor]:
    """Return the outputs of `call(*args, **kwargs)` for `arguments` = (args, kwargs) that hold tensors of tf_keras.

    Raises:
        UntraceableError: the graph draws random numbers, has control flow, or an operation without a public name.
    """
    tf = import_tensorflow()
    flat = tf.nest.flatten(arguments)
    graph = tf.__internal__.FuncGraph("traced")
    placeholders: dict[str, KerasTensor] = {}
    with graph.as_default():
        inside = []
        for item in flat:
            if hasattr(item, "_keras_history"):
                placeholder = tf.compat.v1.placeholder(item.dtype, item.shape)
                placeholders[placeholder.op.name] = item
                inside.append(placeholder)
            else:
                inside.append(item)
        args, kwargs = tf.nest.pack_sequence_as(arguments, inside)
        outputs = [tf.convert_to_tensor(out) for out in tf.nest.flatten(call(*args, **kwargs)) if out is not None]
    if any(operation.type in CONTROL for operation in graph.get_operations()):
        raise UntraceableError("it has control flow, whose bodies tf_keras can't store")
    replay = _Replay(
        placeholders,
        {inside.op.name: outside for outside, inside in graph.captures},
        hold,
        next(iter(placeholders.values()), None),
    )
    return [replay.output(tensor) for tensor in outputs]


def _moved(kind: str, inputs: Sequence[_Value]) -> bool:
    """Return whether only sizes and constants are moved, to known places."""
    data = 1 if kind == "Split" else 0
    free = [index for index, value in enumerate(inputs) if value.make is not None]
    return all(inputs[index].samples and (index == data or kind in JOINING) for index in free)


class _Replay:
    """Repeat a traced graph; values are kept by the name of their tensor in it."""

    def __init__(
        self, placeholders: dict[str, KerasTensor], captured: dict[str, TfTensor], hold: Holder, anchor: KerasTensor
    ) -> None:
        self._placeholders, self._captured, self._hold, self._anchor = placeholders, captured, hold, anchor
        self._values: dict[str, _Value] = {}

    def output(self, tensor: TfTensor) -> KerasTensor:
        """Return the tensor of tf_keras for a tensor of the graph; a constant becomes a tensor with its value."""
        value = self._value(tensor)
        if value.make is None:
            return self._typed(value.constant)
        return value.tensor()

    def _value(self, tensor: TfTensor) -> _Value:
        """Work without recursion: a graph may be deeper than Python's stack."""
        waiting = [tensor.op]
        while waiting:
            operation = waiting[-1]
            missing = [t.op for t in operation.inputs if t.name not in self._values]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            if operation.outputs and operation.outputs[0].name not in self._values:
                for out, value in zip(operation.outputs, self._of(operation), strict=True):
                    self._values[out.name] = value
        return self._values[tensor.name]

    def _of(self, operation: TfOperation) -> list[_Value]:
        tf = import_tensorflow()
        kind, name = operation.type, operation.name
        if kind == "Const":
            return [_Value(constant=tf.make_ndarray(operation.get_attr("value")))]
        if kind == "Placeholder":
            return [self._outside(name)]
        inputs = [self._values[tensor.name] for tensor in operation.inputs]
        if kind in PASSING:
            return inputs[:1]
        if kind in RANDOM:
            raise UntraceableError("it draws random numbers")
        if kind in ("Shape", "ShapeN", "Size", "Rank") and (known := self._sizes(operation)):
            return known
        if all(value.make is None for value in inputs):
            return [_Value(constant=array) for array in evaluated(operation, [value.constant for value in inputs])]
        if kind in MOVING and operation.outputs[0].dtype != tf.bool and _moved(kind, inputs):
            return self._from_sizes(operation, inputs)
        return self._emitted(operation, inputs)

    def _outside(self, name: str) -> _Value:
        if name in self._placeholders:
            tensor = self._placeholders[name]
            return _Value(make=lambda: tensor)
        outside = self._captured[name]
        if outside.dtype.name == "resource":
            return _Value(make=lambda: self._hold(outside, self._anchor))
        return _Value(constant=outside.numpy())

    def _sizes(self, operation: TfOperation) -> list[_Value]:
        """Return shapes: constants if all sizes are known, else their values for each of FREE."""
        if any(tensor.shape.rank is None for tensor in operation.inputs):
            return []
        runs = (self._sampled(operation, free) for free in FREE)
        values = [_Value(samples=sizes) for sizes in zip(*runs, strict=True)]
        return self._settled(operation, values, [self._values[t.name] for t in operation.inputs])

    def _sampled(self, operation: TfOperation, free: int) -> list[NDArray[Any]]:
        import numpy as np

        kind: Any = {"Shape": np.array, "ShapeN": np.array, "Size": np.prod, "Rank": len}[operation.type]
        dtype = operation.outputs[0].dtype.as_numpy_dtype
        shapes = [[free if size is None else size for size in tensor.shape] for tensor in operation.inputs]
        return [np.asarray(kind(np.asarray(shape, dtype)), dtype) for shape in shapes]

    def _from_sizes(self, operation: TfOperation, inputs: list[_Value]) -> list[_Value]:
        """Evaluate size arithmetic for each of FREE, as a constant if all agree."""
        runs = []
        for index in range(len(FREE)):
            try:
                runs.append(evaluated(operation, [v.samples[index] if v.samples else v.constant for v in inputs]))
            except import_tensorflow().errors.OpError:  # invalid for such a size: the graph reports that when it runs
                return self._emitted(operation, inputs)
        values = [_Value(samples=samples) for samples in zip(*runs, strict=True)]
        return self._settled(operation, values, inputs)

    def _settled(self, operation: TfOperation, values: list[_Value], inputs: list[_Value]) -> list[_Value]:
        import numpy as np

        emitted = None
        settled = []
        for index, value in enumerate(values):
            first = value.samples[0]
            if all(np.array_equal(first, sample) for sample in value.samples):
                settled.append(_Value(constant=first))
                continue
            emitted = emitted or self._emitted(operation, inputs)
            settled.append(_Value(samples=value.samples, make=emitted[index].make))
        return settled

    def _emitted(self, operation: TfOperation, inputs: list[_Value]) -> list[_Value]:
        """Return the operation on tf_keras' tensors, made when one of its outputs is first needed."""
        tf = import_tensorflow()
        done: list[KerasTensor] = []

        def output(index: int) -> KerasTensor:
            if not done:
                values = [self._argument(operation, position, value) for position, value in enumerate(inputs)]
                made = call_public(operation, values, self._typed)
                done.extend(tf.nest.flatten(made))
                self._check(operation, done)
            return done[index]

        return [_Value(make=partial(output, index)) for index in range(len(operation.outputs))]

    def _argument(self, operation: TfOperation, index: int, value: _Value) -> KerasValue:
        """Return a value that an operation takes; the free size of a requested shape is left to TensorFlow."""
        import numpy as np

        if operation.type == "Reshape" and index == 1 and value.samples and len({s.shape for s in value.samples}) == 1:
            known = np.all([sample == value.samples[0] for sample in value.samples], axis=0)
            if np.sum(~known) == 1 and np.all(value.samples[0] >= 0):
                return np.where(known, value.samples[0], -1)
        return value.tensor()

    def _check(self, operation: TfOperation, made: list[KerasTensor]) -> None:
        for tensor, wanted in zip(made, operation.outputs, strict=False):
            if tensor.dtype != wanted.dtype or not wanted.shape.is_compatible_with(tensor.shape):
                was = f"{wanted.dtype.name} {wanted.shape}, not {tensor.dtype.name} {tensor.shape}"
                raise UntraceableError(f"its operation {operation.type} gives {was}")

    def _typed(self, constant: NDArray[Any]) -> KerasTensor:
        """Return a constant as a tensor of tf_keras, of its own type: a graph in tf_keras begins at its inputs."""
        import numpy as np

        tf = import_tensorflow()
        if self._anchor is None:
            raise UntraceableError("it computes the same for every input")
        array = np.asarray(constant)
        nothing = tf.zeros_like(tf.shape(self._anchor)[:1])
        if array.dtype.kind == "c":
            return tf.complex(self._typed(array.real), self._typed(array.imag))
        if array.dtype == bool:
            return tf.math.logical_or(tf.cast(tf.reshape(nothing, [1] * array.ndim), "bool"), array.tolist())
        return tf.math.add(tf.cast(tf.reshape(nothing, [1] * array.ndim), array.dtype.name), array.tolist())
