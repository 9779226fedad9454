"""Handle TensorFlow operations called on symbolic tensors (wrapped by Keras in a TFOpLambda or SlicingOpLambda).

Each has a rule by its symbol. Lists and arrays among the arguments with a value per channel are cut with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stages.keras.channels.labels import Call, CannotFollowError, Fixed, Flow, Ids, Labels, Path
from stages.keras.channels.rules.merging import joined, merge
from stages.keras.channels.rules.scaling import per_channel
from stages.keras.channels.rules.shapes import reshaped
from stages.keras.channels.rules.table import rule

BINARY = frozenset({"add", "subtract", "multiply", "divide", "truediv", "maximum", "minimum", "pow"}) | {
    "add_v2",
    "squared_difference",
    "divide_no_nan",
    "sub",
    "mul",
    "radd",
    "rsub",
    "rmul",
    "rtruediv",
}
UNARY = (
    frozenset({"abs", "exp", "identity", "negative", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu"})
    | {"sigmoid", "silu", "swish", "softplus", "softsign", "square", "sqrt", "rsqrt", "tanh", "cast", "stop_gradient"}
    | {"clip_by_value", "neg", "log", "log1p", "reciprocal"}
)
REDUCTIONS = frozenset({"reduce_mean", "reduce_sum", "reduce_max", "reduce_min"})
MODULES = frozenset({"", "math", "nn", "__operators__", "compat.v1"})

Operation = Callable[[Call], Flow]


@rule("TFOpLambda", "SlicingOpLambda")
def operation(call: Call) -> Flow:
    """Apply the rule of the symbol; tensors without channels give tensors without channels."""
    module, _, name = call.layer.symbol.rpartition(".")
    function = _operation(module, name)
    if function is None:
        raise CannotFollowError(f"unknown operation {call.layer.symbol}")
    if not any(isinstance(carried, Labels) for carried in call.inputs):
        fixed = call.inputs[0] if call.inputs else Fixed(call.name, "a constant")
        return Flow((fixed,) * len(call.output_shapes))
    return function(call)


def _operation(module: str, name: str) -> Operation | None:
    if module in MODULES and name in BINARY | UNARY:
        return elementwise
    if module in MODULES and name in REDUCTIONS:
        return reduction
    return OPERATIONS.get(f"{module}.{name}".lstrip("."))


def elementwise(call: Call) -> Flow:
    """Handle arithmetic of tensors with each other or with constants, and functions of one tensor."""
    flow = merge(call) if len(call.inputs) > 1 else Flow((call.only(),))
    labels = flow.outputs[0]
    if not isinstance(labels, Labels):
        return flow
    constants = {path: per_channel(call, labels, value) for path, value in _arrays(call)}
    return Flow(flow.outputs, constants={path: held for path, held in constants.items() if held is not None})


def _arrays(call: Call) -> list[tuple[Path, Any]]:
    """Return the arguments that are arrays or lists of numbers, and the paths to them."""
    args, kwargs = call.arguments
    arguments: list[tuple[Path, Any]] = [((0, index), value) for index, value in enumerate(args)]
    arguments += [((1, name), value) for name, value in kwargs.items()]
    arrays = [(path, value) for path, value in arguments if not _is_symbolic(value) and np.ndim(value)]
    if len(call.inputs) > 1 and arrays:
        raise CannotFollowError(f"{call.layer.symbol} with tensors and constants at once")
    return arrays


def _is_symbolic(value: Any) -> bool:
    return hasattr(value, "_keras_history")


def reduction(call: Call) -> Flow:
    """Handle a mean, sum or extreme over axes other than the channels'."""
    labels, rank = _labels(call), len(call.input_shapes[0])
    _, axis = call.argument(1, "axis")
    _, keepdims = call.argument(2, "keepdims", default=False)
    axes = set(range(rank)) if axis is None else {int(number) % rank for number in np.atleast_1d(axis)}
    if labels.axis in axes:
        raise CannotFollowError(f"{call.layer.symbol} across channels")
    shift = 0 if keepdims else sum(number < labels.axis for number in axes)
    return Flow((Labels(labels.axis - shift, labels.ids),))


def concat(call: Call) -> Flow:
    _, axis = call.argument(1, "axis")
    if _is_symbolic(axis):
        raise CannotFollowError("concatenates along an axis that is not known")
    values = call.argument(0, "values")[1]
    if len(values) != len(call.inputs):
        raise CannotFollowError("concatenates tensors and constants")
    return joined(call, int(axis))


def split(call: Call) -> Flow:
    """Split into equal parts, whose channels at the same place are coupled if the split cuts through channels."""
    labels, rank = _labels(call), len(call.input_shapes[0])
    _, parts = call.argument(1, "num_or_size_splits")
    _, axis = call.argument(2, "axis", default=0)
    if int(axis) % rank != labels.axis:
        return Flow((labels,) * len(call.output_shapes))
    if np.ndim(parts):
        raise CannotFollowError("splits channels in parts of given sizes")
    call.couple_blocks(labels.ids, int(parts))
    return Flow(tuple(Labels(labels.axis, ids) for ids in np.split(labels.ids, int(parts))))


def transpose(call: Call) -> Flow:
    labels = _labels(call)
    _, order = call.argument(1, "perm")
    axes = list(reversed(range(len(call.input_shapes[0])))) if order is None else [int(axis) for axis in order]
    return Flow((Labels(axes.index(labels.axis), labels.ids),))


def expand_dims(call: Call) -> Flow:
    labels, rank = _labels(call), len(call.output_shapes[0])
    _, axis = call.argument(1, "axis")
    position = int(axis) % rank
    return Flow((Labels(labels.axis + (position <= labels.axis), labels.ids),))


def squeeze(call: Call) -> Flow:
    labels, shape = _labels(call), call.input_shapes[0]
    _, axis = call.argument(1, "axis")
    dropped = {int(number) % len(shape) for number in np.atleast_1d([] if axis is None else axis)}
    dropped = dropped or {index for index, size in enumerate(shape) if size == 1}
    if labels.axis in dropped:
        raise CannotFollowError("squeezes the channel axis")
    return Flow((Labels(labels.axis - sum(number < labels.axis for number in dropped), labels.ids),))


def reshape(call: Call) -> Flow:
    path, target = call.argument(1, "shape")
    if not isinstance(target, list | tuple) or any(_is_symbolic(size) for size in target):
        raise CannotFollowError("reshapes to sizes that are computed")
    return reshaped(call, _labels(call), path, list(target), first=0)


def resize(call: Call) -> Flow:
    """Handle `tf.image.resize`: channels are last."""
    call.read(len(call.input_shapes[0]) - 1)
    return Flow((_labels(call),))


def slicing(call: Call) -> Flow:
    """Handle `x[…]` with slices and indices: along the channel axis some of the channels, in their order."""
    labels, rank = _labels(call), len(call.input_shapes[0])
    path, spec = call.argument(1, "slice_spec")
    single = isinstance(spec, dict) or not isinstance(spec, list | tuple)
    steps = [spec] if single else list(spec)
    if any(_is_symbolic(step) or step is None for step in steps) or steps.count(Ellipsis) > 1:
        raise CannotFollowError("slices by what is computed, or adds axes")
    missing = rank - len(steps) + steps.count(Ellipsis)
    position = steps.index(Ellipsis) if Ellipsis in steps else len(steps)
    every = [None] * missing
    full = steps[:position] + every + steps[position + 1 :]
    mine, where = full[labels.axis], _where(labels.axis, position, missing)
    if mine is not None and not isinstance(mine, dict):
        raise CannotFollowError("takes one channel")
    axis = labels.axis - sum(step is not None and not isinstance(step, dict) for step in full[: labels.axis])
    if mine is None:
        return Flow((Labels(axis, labels.ids),))
    return _cut(call, labels, axis, mine, path if single else (*path, where))


def _where(axis: int, position: int, missing: int) -> int:
    """Return the index of the step for `axis` among those given, if an ellipsis at `position` stands for `missing`."""
    return axis if axis < position else axis - missing + 1


def _cut(call: Call, labels: Labels, axis: int, step: dict[str, Any], path: Path) -> Flow:
    bounds = slice(step["start"], step["stop"], step["step"])
    if any(_is_symbolic(bound) for bound in step.values()) or bounds.step not in (None, 1):
        raise CannotFollowError("slices channels by steps or by what is computed")
    start, stop, _ = bounds.indices(labels.ids.size)
    call.ledger.parts.append(labels.ids[start:stop])
    sizes: dict[Path, Ids] = {}
    for name, end in (("start", start), ("stop", stop)):
        if step[name] is not None:
            sizes[*path, name] = labels.ids[:end]
    return Flow((Labels(axis, labels.ids[start:stop]),), sizes=sizes)


def _labels(call: Call) -> Labels:
    carried = call.only()
    if not isinstance(carried, Labels):
        raise CannotFollowError("has no channels")
    return carried


def softmax(call: Call) -> Flow:
    labels, rank = _labels(call), len(call.input_shapes[0])
    _, axis = call.argument(1, "axis", default=-1)
    if int(-1 if axis is None else axis) % rank == labels.axis:
        raise CannotFollowError("softmax across channels")
    return Flow((labels,))


OPERATIONS: dict[str, Operation] = {
    "__operators__.getitem": slicing,
    "compat.v1.squeeze": squeeze,
    "compat.v1.transpose": transpose,
    "concat": concat,
    "expand_dims": expand_dims,
    "image.resize": resize,
    "nn.softmax": softmax,
    "reshape": reshape,
    "split": split,
    "squeeze": squeeze,
    "transpose": transpose,
}
