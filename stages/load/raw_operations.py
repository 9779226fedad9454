"""Map TensorFlow's kinds of graph nodes to the public functions that make them: what tf_keras can record and store."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasTensor, KerasValue, TfOperation
from stages.load.compositions import COMPOSED, UntraceableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANDOM = frozenset(
    {"RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "RandomShuffle", "Multinomial"}
    | {"RandomGammaV2", "RandomPoissonV2", "StatelessMultinomial", "StatelessTruncatedNormalV2", "StatelessShuffle"}
    | {"StatelessRandomUniformV2", "StatelessRandomNormalV2", "StatelessRandomUniformIntV2", "StatelessRandomUniform"}
    | {"StatelessRandomNormal", "StatelessRandomUniformInt", "StatelessRandomBinomial", "StatelessRandomGammaV3"}
)
# Type attributes of sizes, axes and indices: functions take plain numbers for these.
UNTYPED = frozenset(
    {"Tidx", "Tshape", "Tindices", "Tdim", "Tlen", "Tpaddings", "Tmultiples", "Tperm", "Index", "Taxis"}
)
# What TensorFlow makes of plain numbers and lists; other types have to be asked for.
DEFAULT_TYPES = frozenset({"float32", "int32", "bool", "string"})

# By kind of node: the function's path, then its arguments: `name`, `name=the node's name for it`, or `name:value`.
NODES: Mapping[str, str] = {
    "AddV2": "math.add x y",
    "Sub": "math.subtract x y",
    "Mul": "math.multiply x y",
    "Pow": "math.pow x y",
    "Equal": "math.equal x y",
    "NotEqual": "math.not_equal x y",
    "DivNoNan": "math.divide_no_nan x y",
    "MulNoNan": "math.multiply_no_nan x y",
    "Xdivy": "math.xdivy x y",
    "Complex": "complex real imag",
    "FloorDiv": "math.floordiv x y",
    **{
        kind: f"{path} x"
        for kind, path in {
            "Abs": "math.abs",
            "ComplexAbs": "math.abs",
            "Acos": "math.acos",
            "Ceil": "math.ceil",
            "Floor": "math.floor",
            "Erfinv": "math.erfinv",
            "Inv": "math.reciprocal",
            "Round": "math.round",
            "Rsqrt": "math.rsqrt",
            "Sigmoid": "math.sigmoid",
            "Sign": "math.sign",
            "Sqrt": "math.sqrt",
            "BesselI0e": "math.bessel_i0e",
            "BesselI0": "math.bessel_i0",
        }.items()
    },
    **{
        kind: f"math.{name} x"
        for kind, name in (
            ("Exp", "exp"),
            ("Log", "log"),
            ("Sin", "sin"),
            ("Cos", "cos"),
            ("Tan", "tan"),
            ("Atan", "atan"),
            ("Asin", "asin"),
            ("Sinh", "sinh"),
            ("Cosh", "cosh"),
        )
    },
    "Conj": "math.conj x=input",
    "Real": "math.real input",
    "Imag": "math.imag input",
    "Angle": "math.angle input",
    "StopGradient": "stop_gradient input",
    "ZerosLike": "zeros_like input=x",
    "OnesLike": "ones_like input=x",
    **{
        kind: f"math.reduce_{name} input_tensor=input axis=reduction_indices keepdims=keep_dims"
        for kind, name in {
            "Sum": "sum",
            "Mean": "mean",
            "Max": "max",
            "Min": "min",
            "Prod": "prod",
            "All": "all",
            "Any": "any",
        }.items()
    },
    "Cast": "cast x dtype=DstT",
    "Shape": "shape input out_type",
    "ShapeN": "shape_n input out_type",
    "Size": "size input out_type",
    "StridedSlice": "strided_slice input_=input begin end strides begin_mask end_mask ellipsis_mask new_axis_mask "
    "shrink_axis_mask",
    "Slice": "slice input_=input begin size",
    "Pack": "stack values axis",
    "Unpack": "unstack value num axis",
    "ConcatV2": "concat values axis",
    "SelectV2": "where condition x=t y=e",
    "Select": "where condition x=t y=e",
    "Where": "where condition=input",
    "GatherV2": "gather params indices axis batch_dims",
    "GatherNd": "gather_nd params indices",
    "ResourceGather": "gather params=resource indices batch_dims",
    "MatMul": "linalg.matmul a b transpose_a transpose_b",
    "BatchMatMulV2": "linalg.matmul a=x b=y adjoint_a=adj_x adjoint_b=adj_y",
    "BatchMatMulV3": "linalg.matmul a=x b=y adjoint_a=adj_x adjoint_b=adj_y",
    "Transpose": "transpose a=x perm",
    "Reshape": "reshape tensor shape",
    "ExpandDims": "expand_dims input axis=dim",
    "Squeeze": "squeeze input axis=squeeze_dims",
    "Split": "split value num_or_size_splits=num_split axis=split_dim",
    "SplitV": "split value num_or_size_splits=size_splits axis=split_dim",
    "Pad": "pad tensor=input paddings",
    "PadV2": "pad tensor=input paddings constant_values",
    "MirrorPad": "pad tensor=input paddings mode",
    "Fill": "fill dims value",
    "Range": "range start limit delta",
    "LinSpace": "linspace start stop num",
    "ArgMax": "math.argmax input axis=dimension output_type",
    "ArgMin": "math.argmin input axis=dimension output_type",
    "Cumsum": "math.cumsum x axis exclusive reverse",
    "Cumprod": "math.cumprod x axis exclusive reverse",
    "CumulativeLogsumexp": "math.cumulative_logsumexp x axis exclusive reverse",
    "TopKV2": "math.top_k input k sorted",
    "InTopKV2": "math.in_top_k targets predictions k",
    "OneHot": "one_hot indices depth on_value off_value axis",
    "Roll": "roll input shift axis",
    "Conv2D": "nn.conv2d input filters=filter strides padding data_format dilations",
    "Conv3D": "nn.conv3d input filters=filter strides padding data_format dilations",
    # Not `tf.nn.depthwise_conv2d`, which dilates by way of space-to-batch (`nn_impl.py`).
    "DepthwiseConv2dNative": "compat.v1.nn.depthwise_conv2d_native input filter strides padding data_format dilations",
    "Conv2DBackpropInput": "nn.conv2d_transpose input=out_backprop filters=filter output_shape=input_sizes strides "
    "padding data_format dilations",
    "Conv3DBackpropInputV2": "nn.conv3d_transpose input=out_backprop filters=filter output_shape=input_sizes strides "
    "padding data_format dilations",
    **{
        kind: f"nn.{name} input{source} ksize strides padding data_format"
        for kind, name, source in (
            ("AvgPool", "avg_pool2d", "=value"),
            ("MaxPool", "max_pool2d", ""),
            ("AvgPool3D", "avg_pool3d", ""),
            ("MaxPool3D", "max_pool3d", ""),
        )
    },
    "BiasAdd": "nn.bias_add value bias data_format",
    "Relu6": "nn.relu6 features",
    "LeakyRelu": "nn.leaky_relu features alpha",
    "Softmax": "nn.softmax logits",
    "LogSoftmax": "nn.log_softmax logits",
    "Softplus": "math.softplus features",
    "SparseSoftmaxCrossEntropyWithLogits": "nn.sparse_softmax_cross_entropy_with_logits labels logits=features",
    "SoftmaxCrossEntropyWithLogits": "nn.softmax_cross_entropy_with_logits labels logits=features",
    "DepthToSpace": "nn.depth_to_space input block_size data_format",
    "SpaceToDepth": "nn.space_to_depth input block_size data_format",
    "ExtractImagePatches": "image.extract_patches images sizes=ksizes strides rates padding",
    # `tf.image.resize` always takes half-pixel centers (`image_ops_impl.py`); a node may not.
    "ResizeBilinear": "compat.v1.image.resize_bilinear images size align_corners half_pixel_centers",
    "ResizeNearestNeighbor": "compat.v1.image.resize_nearest_neighbor images size align_corners half_pixel_centers",
    "ResizeBicubic": "compat.v1.image.resize_bicubic images size align_corners half_pixel_centers",
    "TensorScatterUpdate": "tensor_scatter_nd_update tensor indices updates",
    "MatrixDiagV3": "linalg.diag diagonal k num_rows num_cols padding_value align",
    "MatrixDiagPartV3": "linalg.diag_part input k padding_value align",
    "MatrixSetDiagV3": "linalg.set_diag input diagonal k align",
    "MatrixTriangularSolve": "linalg.triangular_solve matrix rhs lower adjoint",
    "Svd": "linalg.svd tensor=input full_matrices compute_uv",
    "SelfAdjointEigV2": "linalg.eigh tensor=input",
    "Eig": "linalg.eig tensor=input",
    "RFFT": "signal.rfft input_tensor=input fft_length",
    "IRFFT": "signal.irfft input_tensor=input fft_length",
    "LowerBound": "searchsorted sorted_sequence=sorted_inputs values side:left out_type",
    "UpperBound": "searchsorted sorted_sequence=sorted_inputs values side:right out_type",
    # Without both bounds the function counts as far as the values go, the node up to its `size`.
    "DenseBincount": "math.bincount arr=input weights minlength=size maxlength=size binary_output axis:-1",
    "AddN": "math.add_n inputs",
    "Unique": "unique x out_idx",
    "UniqueWithCounts": "unique_with_counts x out_idx",
    "ClipByValue": "clip_by_value t clip_value_min clip_value_max",
    "BroadcastArgs": "broadcast_dynamic_shape shape_x=s0 shape_y=s1",
}
PASSING = frozenset({"Identity", "ReadVariableOp", "PreventGradient", "EnsureShape", "Snapshot", "CheckNumerics"})
CONTROL = frozenset({"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase", "Switch", "Merge"})


def evaluated(node: TfOperation, constants: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Compute a node's outputs now, as arrays."""
    tf = import_tensorflow()
    raw = getattr(tf.raw_ops, node.type)
    sources = _inputs(node, [tf.constant(c, t.dtype) for c, t in zip(constants, node.inputs, strict=True)])
    names = _names(raw, node)
    arguments = {name: sources[s] if s in sources else _attribute(node, s) for name, s in names}
    with tf.init_scope():  # outside of any graph that is being built
        return [output.numpy() for output in tf.nest.flatten(raw(**arguments))]


def call_public(
    node: TfOperation, values: Sequence[KerasValue], typed: Callable[[KerasValue], KerasTensor]
) -> KerasTensor:
    """Call the public function that computes what `node` does; `values` are tensors of tf_keras or arrays.

    `typed` turns an array into a tensor: for types that a list of numbers does not imply.

    Raises:
        UntraceableError: TensorFlow has no public function for such a node.
    """
    sources = _inputs(node, [_given(node, index, values, typed) for index in range(len(values))])
    if node.type == "AddV2" and not hasattr(sources["x"], "_keras_history"):
        sources = {"x": sources["y"], "y": sources["x"]}  # it takes the type of its first argument
    if node.type in COMPOSED:
        return COMPOSED[node.type](node, **sources)
    function, names = _public(node)
    arguments = {}
    for target, source in names:
        if source.startswith(":"):
            arguments[target] = int(source[1:]) if source[1:].lstrip("-").isdigit() else source[1:]
        else:
            arguments[target] = sources[source] if source in sources else _attribute(node, source)
    # The node's empty list stands for all axes of size 1, which the function calls None.
    if node.type == "Squeeze" and not arguments["axis"]:
        del arguments["axis"]
    first = arguments.pop(next(iter(inspect.signature(function).parameters)))
    return recorded(function, first, **arguments)


def recorded(function: Callable[..., Any], *args: KerasValue, **kwargs: KerasValue) -> KerasTensor:
    """Call a public TensorFlow function on tensors of tf_keras, whether or not it supports them itself."""
    from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

    return TFOpLambda(function)(*args, **kwargs)


def _public(node: TfOperation) -> tuple[Callable[..., Any], list[tuple[str, str]]]:
    """Return the function, and pairs of an argument's name and the node's name for it."""
    tf, kind = import_tensorflow(), node.type
    if kind in NODES:
        path, *names = NODES[kind].split()
        return operator.attrgetter(path)(tf), [_pair(name) for name in names]
    raw = getattr(tf.raw_ops, kind, None)
    function = getattr(sys.modules[raw.__module__], raw.__name__, None) if raw else None
    from tensorflow.python.util.tf_export import get_canonical_name_for_symbol

    if function is None or not get_canonical_name_for_symbol(function, add_prefix_to_v1_names=True):
        raise UntraceableError(f"TensorFlow has no public function for {kind}")
    return function, _names(function, node)


def _names(function: Callable[..., Any], node: TfOperation) -> list[tuple[str, str]]:
    """Map a generated function's arguments to the node's names: inputs may be renamed, but not reordered."""
    inputs = [argument.name for argument in node.op_def.input_arg]
    pairs = []
    for index, name in enumerate(inspect.signature(function).parameters):
        if name in inputs or name in node.node_def.attr:
            pairs.append((name, name))
        elif index < len(inputs):
            pairs.append((name, inputs[index]))
    return pairs


def _pair(word: str) -> tuple[str, str]:
    if ":" in word:
        target, _, text = word.partition(":")
        return target, f":{text}"
    target, _, source = word.partition("=")
    return target, source or target


def _inputs(node: TfOperation, values: Sequence[KerasValue]) -> dict[str, KerasValue]:
    """Return the values by the names of the node's inputs; a list if one name takes many."""
    by_name: dict[str, Any] = {}
    rest = list(values)
    for argument in node.op_def.input_arg:
        if argument.number_attr or argument.type_list_attr:
            attribute = node.get_attr(argument.number_attr or argument.type_list_attr)
            count = attribute if isinstance(attribute, int) else len(attribute)
            by_name[argument.name], rest = rest[:count], rest[count:]
        else:
            by_name[argument.name] = rest.pop(0)
    return by_name


def _given(
    node: TfOperation, index: int, values: Sequence[KerasValue], typed: Callable[[KerasValue], KerasTensor]
) -> KerasValue:
    """Return a value as the function takes it: a tensor, or numbers that will get the right type."""
    import numpy as np

    value = values[index]
    if hasattr(value, "_keras_history"):
        return value
    array = np.asarray(value)
    types = [kind for kind, _ in _types(node)]
    others = [i for i, kind in enumerate(types) if kind == types[index] and hasattr(values[i], "_keras_history")]
    simple = array.dtype.name in DEFAULT_TYPES and (array.size or array.dtype.name == "int32")
    if simple or types[index] in UNTYPED or (types[index] and others and array.size and array.dtype.kind != "c"):
        return array.tolist()
    return typed(array)


def _types(node: TfOperation) -> list[tuple[str, str]]:
    """Return the type attribute of each input, and the input's name."""
    types = []
    for argument in node.op_def.input_arg:
        count = 1
        if argument.number_attr:
            count = node.get_attr(argument.number_attr)
        elif argument.type_list_attr:
            count = len(node.get_attr(argument.type_list_attr))
        types += [(argument.type_attr, argument.name)] * count
    return types


def _attribute(node: TfOperation, name: str) -> Any:
    """Return a setting of a node as plain data."""
    if name not in node.node_def.attr:
        raise UntraceableError(f"its operation {node.type} has no {name}")
    value = node.get_attr(name)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [item.decode() if isinstance(item, bytes) else item for item in value]
    return value.name if hasattr(value, "as_numpy_dtype") else value
